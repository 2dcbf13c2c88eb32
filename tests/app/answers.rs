//! Asking, answering, branches.

use fathom::app::worker::{Job, Report};
use fathom::app::{Command, MessageState, Notice, Phase};
use fathom::engine::{Event, Stats, StopReason};
use fathom::text::Role;

use crate::desk::{Desk, contents, model, stats, turns};

#[test]
fn a_question_is_answered_as_it_comes() {
    let mut desk = Desk::open();
    desk.ask("  What is\na fathom?  ");
    assert_eq!(desk.app.answering().unwrap().phase, Phase::Waiting);
    let (ticket, request) = desk.request();
    assert_eq!(turns(&request), [(Role::User, "What is\na fathom?".to_string())]);
    assert_eq!((request.sampling.temperature, request.sampling.top_p, request.watch), (0.6, 0.95, false));
    desk.script.event(ticket, Event::Prefill { done: 4, total: 9 });
    desk.wait(5);
    assert_eq!(desk.app.answering().unwrap().phase, Phase::Reading { done: 4, total: 9 });
    desk.script.reasoning(ticket, "Let me ");
    desk.script.reasoning(ticket, "think.");
    desk.wait(5);
    assert_eq!(desk.app.answering().unwrap().phase, Phase::Reasoning);
    desk.wait(695);
    desk.script.text(ticket, "Six ");
    desk.script.text(ticket, "feet.");
    desk.wait(5);
    assert_eq!((desk.app.answering().unwrap().phase, desk.leaf().content.as_str()), (Phase::Writing, "Six feet."));
    desk.script.event(ticket, Event::Stats(stats(9, 2)));
    desk.wait(5);
    assert_eq!(desk.app.answering().unwrap().stats, Some(stats(9, 2)));
    assert_eq!(desk.app.context.unwrap().tokens, 11);
    desk.script.done(ticket, StopReason::Eos, stats(9, 5));
    desk.wait(5);
    let leaf = desk.leaf();
    assert_eq!((leaf.content.as_str(), leaf.reasoning.as_str(), &leaf.state), ("Six feet.", "Let me think.", &MessageState::Finished));
    assert_eq!((leaf.reasoning_ms, leaf.stats, leaf.model.as_deref()), (Some(700), Some(stats(9, 5)), Some("small")));
    assert_eq!(leaf.sampling.unwrap(), request.sampling);
    assert!(desk.app.answering().is_none());
    assert_eq!(desk.app.chat().head.title, "What is");
    assert_eq!(desk.app.chats[0].title, "What is");
    let before = desk.app.chat().clone();
    assert_eq!(desk.stored(), before);
    // The next question takes the answer along, without its reasoning.
    desk.ask("And two?");
    let (_, request) = desk.request();
    assert_eq!(contents(&request), ["What is\na fathom?", "Six feet.", "And two?"]);
}

#[test]
fn nothing_is_sent_while_there_is_nothing_to_say_or_an_answer_comes() {
    let mut desk = Desk::open();
    desk.ask("  \n ");
    assert!(desk.app.chat().path_len() == 0 && desk.script.next_answer().is_none());
    desk.ask("one");
    let (ticket, _) = desk.request();
    desk.ask("two");
    assert_eq!((desk.app.chat().path_len(), desk.app.chat().head.draft.text.as_str()), (2, "two"), "the draft is kept");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(5);
    desk.app.apply(Command::Send);
    assert_eq!(desk.app.chat().path_len(), 4);
}

#[test]
fn a_stop_keeps_what_was_written_and_what_comes_late_is_numbers_alone() {
    let mut desk = Desk::open();
    desk.ask("Count.");
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "one two");
    desk.wait(10);
    desk.app.apply(Command::Stop);
    assert_eq!((desk.leaf().content.as_str(), &desk.leaf().state), ("one two", &MessageState::Stopped));
    assert!(desk.app.answering().is_none(), "at once, whatever the engine does");
    desk.script.text(ticket, " three");
    desk.script.done(ticket, StopReason::Cancelled, stats(3, 3));
    desk.wait(10);
    assert_eq!((desk.leaf().content.as_str(), desk.leaf().stats), ("one two", Some(stats(3, 3))));
    assert_eq!(desk.stored().leaf(), desk.app.chat().leaf());
    desk.app.apply(Command::Stop);
    // What was never begun can be stopped too.
    desk.ask("Again.");
    let job = desk.script.take(|job| if let Job::Answer { cancel, .. } = job { Some(cancel.clone()) } else { None }).unwrap();
    desk.app.apply(Command::Stop);
    assert!(job.is_cancelled() && desk.leaf().content.is_empty());
}

#[test]
fn answers_of_several_chats_come_one_after_another() {
    let mut desk = Desk::open();
    desk.ask("first");
    let one = desk.app.chat().id();
    desk.app.apply(Command::NewChat);
    assert!(desk.app.answering().is_none() && desk.app.chat().path_len() == 0);
    desk.ask("second");
    let (ticket, request) = desk.request();
    assert_eq!(contents(&request), ["first"]);
    assert!(desk.script.next_answer().is_none(), "the engine has one sequence");
    assert_eq!(desk.app.answering().unwrap().phase, Phase::Waiting);
    desk.script.text(ticket, "1");
    desk.script.done(ticket, StopReason::Length, Stats::default());
    desk.wait(10);
    let (_, request) = desk.request();
    assert_eq!(contents(&request), ["second"]);
    desk.app.apply(Command::OpenChat(one));
    assert_eq!((desk.shown(), &desk.leaf().state), (vec!["first".into(), "1".into()], &MessageState::Cut));
}

#[test]
fn without_a_model_a_question_opens_one_and_waits() {
    let mut desk = Desk::new();
    desk.ask("early");
    assert!(desk.script.next_answer().is_none() && desk.app.opening.is_some());
    desk.script.open(model());
    desk.wait(10);
    let (_, request) = desk.request();
    assert_eq!((contents(&request), request.sampling.temperature), (vec!["early".to_string()], 0.6));
    // One that cannot be opened fails the question.
    let mut desk = Desk::new();
    desk.ask("early");
    let ticket = desk.script.take(|job| if let Job::Open { ticket, .. } = job { Some(*ticket) } else { None }).unwrap();
    desk.script.report(Report::OpenFailed { ticket, reason: "no such file".into(), kept: false });
    desk.wait(10);
    assert_eq!(desk.leaf().state, MessageState::Failed("no such file".into()));
    assert!(matches!(&desk.notices()[..], [Notice::ModelFailed { reason, kept: false, .. }] if reason == "no such file"));
    // Continuing opens it anew.
    let failed = desk.leaf().id;
    desk.app.apply(Command::Continue(failed));
    desk.script.open(model());
    desk.wait(10);
    assert!(desk.script.answer("now"));
    desk.wait(10);
    assert_eq!((desk.shown(), desk.notices()), (vec!["early".into(), "now".into()], vec![]));
}

#[test]
fn a_failed_answer_says_why_and_can_go_on() {
    let mut desk = Desk::open();
    desk.ask("q");
    let (ticket, first) = desk.request();
    desk.script.reasoning(ticket, "so ");
    desk.script.text(ticket, "half an ");
    desk.script.event(ticket, Event::Failed("out of device memory".into()));
    desk.wait(10);
    assert_eq!(desk.leaf().state, MessageState::Failed("out of device memory".into()));
    let id = desk.leaf().id;
    desk.app.apply(Command::Continue(id));
    let (ticket, request) = desk.request();
    let begun = request.begun.clone().unwrap();
    assert_eq!((begun.reasoning.as_str(), begun.text.as_str(), contents(&request)), ("so ", "half an ", vec!["q".to_string()]));
    assert_eq!(request.sampling.seed, first.sampling.seed, "it goes on as it began");
    desk.script.text(ticket, "answer");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(10);
    assert_eq!((desk.leaf().id, desk.leaf().content.as_str(), &desk.leaf().state), (id, "half an answer", &MessageState::Finished));
    let question = desk.at(0);
    desk.app.apply(Command::Continue(question));
    assert!(desk.script.next_answer().is_none(), "questions are not continued");
}

#[test]
fn every_new_try_is_a_branch() {
    let mut desk = Desk::open();
    desk.talk("q1", "a1");
    desk.talk("q2", "a2");
    let (q1, a1, a2) = (desk.at(0), desk.at(1), desk.at(3));
    desk.app.apply(Command::Regenerate(a2));
    let (ticket, request) = desk.request();
    assert_eq!(contents(&request), ["q1", "a1", "q2"]);
    desk.script.text(ticket, "a2b");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(10);
    let a2b = desk.leaf().id;
    assert_eq!(desk.app.chat().siblings(a2b), (1, [a2, a2b].as_slice()));
    desk.app.apply(Command::StepBranch(a2b, -1));
    assert_eq!(desk.shown(), ["q1", "a1", "q2", "a2"]);
    desk.app.apply(Command::StepBranch(a2, -1));
    desk.app.apply(Command::StepBranch(a2, 7));
    assert_eq!(desk.leaf().id, a2, "there is none further on");
    // An edited question is answered anew; the old one is a step away.
    desk.app.apply(Command::Edit(q1, "q1 better".into()));
    assert!(desk.script.answer("a1 better"));
    desk.wait(10);
    assert_eq!(desk.shown(), ["q1 better", "a1 better"]);
    let better = desk.at(0);
    desk.app.apply(Command::StepBranch(better, -1));
    assert_eq!(desk.shown(), ["q1", "a1", "q2", "a2"], "as it was left");
    // An edited answer is a branch that nobody is asked about.
    desk.app.apply(Command::Edit(a1, "a1 by hand".into()));
    assert_eq!((desk.shown(), desk.script.next_answer().is_none()), (vec!["q1".into(), "a1 by hand".into()], true));
    desk.app.apply(Command::Edit(a1, "  ".into()));
    assert_eq!(desk.shown().len(), 2);
    // Asked of a question, another answer to it is meant.
    desk.app.apply(Command::Regenerate(q1));
    assert!(desk.script.answer("a1 third"));
    desk.wait(10);
    assert_eq!(desk.shown(), ["q1", "a1 third"]);
    let stored = desk.stored();
    assert_eq!(&stored, desk.app.chat());
    let desk = desk.restart();
    assert_eq!(desk.app.chat(), &stored, "all of it after a restart, and the same chat in front");
}

#[test]
fn a_deleted_message_takes_what_follows_and_comes_back() {
    let mut desk = Desk::open();
    desk.talk("q1", "a1");
    desk.talk("q2", "a2");
    let before = desk.app.chat().messages().to_vec();
    let q2 = desk.at(2);
    desk.app.apply(Command::DeleteMessage(q2));
    assert_eq!((desk.shown(), desk.stored().messages().len()), (vec!["q1".into(), "a1".into()], 2));
    desk.app.apply(Command::Undo);
    assert_eq!((desk.app.chat().messages(), desk.stored().messages()), (before.as_slice(), before.as_slice()));
    desk.app.apply(Command::DeleteMessage(q2));
    desk.wait(20_000);
    assert!(desk.app.undo.is_none());
    desk.app.apply(Command::Undo);
    assert_eq!(desk.shown().len(), 2, "too late");
    // What is being written is ended first.
    desk.ask("q3");
    let (ticket, _) = desk.request();
    let q3 = desk.at(2);
    desk.app.apply(Command::DeleteMessage(q3));
    desk.script.text(ticket, "late");
    desk.script.done(ticket, StopReason::Cancelled, Stats::default());
    desk.wait(10);
    assert_eq!(desk.stored().messages().len(), 2);
    assert!(desk.app.answers.is_empty());
}
