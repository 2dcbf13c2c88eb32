//! Chats: the sidebar, drafts, search, files, and what is longer than the context.

use fathom::app::store::Store;
use fathom::app::worker::{Job, Report, Ticket};
use fathom::app::{Attachment, ChatSettings, Command, Format, MessageState, Notice};
use fathom::engine::{Stats, StopReason};

use crate::desk::{Desk, contents};

#[test]
fn chats_are_listed_named_pinned_deleted_and_brought_back() {
    let mut desk = Desk::open();
    desk.talk("alpha", "1");
    let alpha = desk.app.chat().id();
    desk.app.apply(Command::NewChat);
    desk.app.apply(Command::NewChat);
    assert_eq!(desk.app.chats.len(), 1, "an empty page is no chat yet");
    desk.wait(1000);
    desk.talk("beta", "2");
    let beta = desk.app.chat().id();
    let titles = |desk: &Desk| desk.app.chats.iter().map(|chat| chat.title.clone()).collect::<Vec<_>>();
    assert_eq!(titles(&desk), ["beta", "alpha"]);
    desk.app.apply(Command::PinChat(alpha, true));
    desk.app.apply(Command::RenameChat(alpha, " The\nfirst ".into()));
    assert_eq!(titles(&desk), ["The first", "beta"]);
    desk.app.apply(Command::PreviousChat);
    assert_eq!(desk.app.chat().id(), alpha);
    desk.app.apply(Command::PreviousChat);
    assert_eq!(desk.app.chat().id(), alpha);
    desk.talk("more", "3");
    assert_eq!(desk.app.chat().head.title, "The first", "a name given by hand stays");
    desk.app.apply(Command::NextChat);
    assert_eq!(desk.app.chat().id(), beta);
    let before = desk.app.chat().clone();
    desk.app.apply(Command::DeleteChat(beta));
    assert_eq!((desk.app.chat().id(), titles(&desk)), (alpha, vec!["The first".to_string()]));
    assert_eq!(desk.store.inner.borrow_mut().chat(beta).unwrap(), None);
    desk.app.apply(Command::Undo);
    assert_eq!((desk.app.chat(), desk.stored()), (&before, before.clone()));
    desk.app.apply(Command::DeleteChat(beta));
    desk.app.apply(Command::DeleteChat(alpha));
    assert!(desk.app.chats.is_empty() && desk.app.chat().path_len() == 0);
    desk.app.apply(Command::OpenChat(alpha));
    assert_ne!(desk.app.chat().id(), alpha, "gone");
    desk.talk("gamma", "4");
    assert_eq!(titles(&desk), ["gamma"]);
}

#[test]
fn drafts_and_folds_belong_to_their_chats() {
    let mut desk = Desk::open();
    desk.talk("alpha", "1");
    let alpha = desk.app.chat().id();
    desk.app.apply(Command::SetDraft("to alpha".into()));
    desk.app.apply(Command::ShowReasoning(true));
    desk.app.apply(Command::NewChat);
    assert_eq!((desk.app.chat().head.draft.text.as_str(), desk.app.chat().head.shows_reasoning), ("", false));
    desk.app.apply(Command::SetDraft("to a new chat".into()));
    let new = desk.app.chat().id();
    desk.app.apply(Command::OpenChat(alpha));
    assert_eq!((desk.app.chat().head.draft.text.as_str(), desk.app.chat().head.shows_reasoning), ("to alpha", true));
    desk.app.apply(Command::SetDraft("to alpha, longer".into()));
    desk.wait(1000);
    let mut desk = desk.restart();
    assert_eq!(desk.app.chat().head.draft.text, "to alpha, longer");
    desk.app.apply(Command::OpenChat(new));
    assert_eq!(desk.app.chat().head.draft.text, "to a new chat");
}

#[test]
fn searches_lead_to_the_message_on_its_branch() {
    let mut desk = Desk::open();
    desk.talk("where is the needle", "hay");
    let (chat, hay) = (desk.app.chat().id(), desk.at(1));
    desk.app.apply(Command::Regenerate(hay));
    assert!(desk.script.answer("more hay"));
    desk.wait(10);
    desk.app.apply(Command::NewChat);
    desk.app.apply(Command::Search("HAY".into()));
    assert_eq!(desk.app.search.hits.len(), 2);
    let hit = desk.app.search.hits.iter().find(|hit| hit.message == Some(hay)).unwrap().clone();
    assert_eq!(hit.title, "where is the needle");
    desk.app.apply(Command::OpenMessage(hit.chat, hit.message.unwrap()));
    assert_eq!((desk.app.chat().id(), desk.app.reveal, desk.leaf().id), (chat, Some(hay), hay));
    desk.app.apply(Command::Search(" ".into()));
    assert!(desk.app.search.hits.is_empty());
}

#[test]
fn files_go_along_with_a_question() {
    let mut desk = Desk::open();
    desk.app.apply(Command::Attach("/tmp/a.rs".into()));
    desk.app.apply(Command::Attach("/tmp/b.png".into()));
    let tickets: Vec<Ticket> =
        desk.script.jobs().iter().filter_map(|job| if let Job::Attach { ticket, .. } = job { Some(*ticket) } else { None }).collect();
    let file = Attachment { name: "a.rs".into(), text: "fn main() {}\n".into() };
    desk.script.report(Report::Attached { ticket: tickets[0], result: Ok(file.clone()) });
    desk.script.report(Report::Attached { ticket: tickets[1], result: Err("/tmp/b.png: expected text".into()) });
    desk.wait(10);
    assert_eq!(desk.app.chat().head.draft.attachments, std::slice::from_ref(&file));
    assert_eq!(desk.notices(), [Notice::FileFailed { reason: "/tmp/b.png: expected text".into() }]);
    let banner = desk.app.notices[0].0;
    desk.app.apply(Command::DismissNotice(banner));
    assert!(desk.app.notices.is_empty());
    desk.app.apply(Command::RemoveAttachment(5));
    desk.app.apply(Command::RemoveAttachment(0));
    assert!(desk.app.chat().head.draft.attachments.is_empty());
    desk.app.apply(Command::Attach("/tmp/a.rs".into()));
    let ticket = desk.script.take(|job| if let Job::Attach { ticket, .. } = job { Some(*ticket) } else { None }).unwrap();
    desk.script.report(Report::Attached { ticket, result: Ok(file.clone()) });
    desk.wait(10);
    desk.ask("What does it do?");
    let (_, request) = desk.request();
    assert_eq!(contents(&request), ["a.rs\n```\nfn main() {}\n```\n\nWhat does it do?"]);
    assert_eq!(desk.app.chat().path_message(0).unwrap().attachments, [file]);
    assert!(desk.app.chat().head.draft.is_empty());
}

#[test]
fn chats_go_out_as_files_and_come_back() {
    let mut desk = Desk::open();
    desk.talk("q", "a");
    let id = desk.app.chat().id();
    let written = |desk: &mut Desk| {
        let write =
            |job: &Job| if let Job::Write { ticket, path, bytes } = job { Some((*ticket, path.clone(), bytes.clone())) } else { None };
        let (ticket, path, bytes) = desk.script.take(write).unwrap();
        desk.script.report(Report::Written { ticket, path, result: Ok(()) });
        desk.wait(10);
        bytes
    };
    desk.app.apply(Command::ExportChat { chat: id, format: Format::Markdown, path: "/tmp/q.md".into() });
    assert_eq!(String::from_utf8(written(&mut desk)).unwrap(), "# q\n\n## User\n\nq\n\n## Assistant\n\na\n\n");
    assert_eq!(desk.notices(), [Notice::Exported { path: "/tmp/q.md".into() }]);
    desk.app.apply(Command::ExportChat { chat: id, format: Format::Json, path: "/tmp/q.json".into() });
    let one = written(&mut desk);
    desk.app.apply(Command::NewChat);
    desk.talk("q2", "a2");
    desk.app.apply(Command::ExportAll("/tmp/all.json".into()));
    let all = written(&mut desk);
    for (bytes, count) in [(one, 1), (all, 2)] {
        let mut other = Desk::open();
        other.app.apply(Command::Import("/tmp/x.json".into()));
        let (ticket, path) =
            other.script.take(|job| if let Job::Read { ticket, path } = job { Some((*ticket, path.clone())) } else { None }).unwrap();
        other.script.report(Report::Read { ticket, path, result: Ok(bytes) });
        other.wait(10);
        assert_eq!((other.app.chats.len(), other.notices()), (count, vec![Notice::Imported { chats: count }]));
        assert_eq!(other.shown().len(), 2);
        assert_eq!(&other.stored(), other.app.chat());
    }
    desk.app.apply(Command::Import("/tmp/x.json".into()));
    let (ticket, path) =
        desk.script.take(|job| if let Job::Read { ticket, path } = job { Some((*ticket, path.clone())) } else { None }).unwrap();
    desk.script.report(Report::Read { ticket, path, result: Ok(b"{}".to_vec()) });
    desk.wait(10);
    assert!(matches!(desk.notices().last(), Some(Notice::FileFailed { reason }) if reason.starts_with("/tmp/x.json: expected chats")));
}

#[test]
fn the_context_is_counted_as_one_types() {
    let mut desk = Desk::open();
    desk.app.apply(Command::SetChatSettings(ChatSettings { system: "Be brief.".into(), ..ChatSettings::default() }));
    desk.app.apply(Command::SetDraft("Hel".into()));
    desk.wait(100);
    desk.app.apply(Command::SetDraft("Hello".into()));
    let count = |job: &Job| if let Job::Count { ticket, messages, .. } = job { Some((*ticket, messages.clone())) } else { None };
    assert!(desk.script.take(count).is_none(), "while typing goes on");
    desk.wait(500);
    let (ticket, messages) = desk.script.take(count).unwrap();
    assert_eq!(messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>(), ["Be brief.", "Hello"]);
    desk.script.report(Report::Counted { ticket: Ticket(999), tokens: 1 });
    desk.script.report(Report::Counted { ticket, tokens: 3800 });
    desk.wait(10);
    let used = desk.app.context.unwrap();
    assert_eq!((used.tokens, used.context, used.is_near(), used.is_full()), (3800, 4096, true, false));
    desk.app.apply(Command::SetChatSettings(ChatSettings { context: Some(1000), ..ChatSettings::default() }));
    desk.wait(500);
    let (ticket, _) = desk.script.take(count).unwrap();
    desk.script.report(Report::Counted { ticket, tokens: 1001 });
    desk.wait(10);
    assert!(desk.app.context.unwrap().is_full());
    // An answer that is stopped lets the count go on.
    desk.app.apply(Command::NewChat);
    desk.wait(500);
    desk.ask("x");
    desk.wait(500);
    assert!(desk.script.take(count).is_none(), "the answer itself tells");
    desk.app.apply(Command::Stop);
    desk.wait(500);
    assert!(desk.script.take(count).is_some());
}

/// A chat of three pairs whose fourth question is too long.
fn too_long() -> Desk {
    let mut desk = Desk::open();
    for turn in 1..=3 {
        desk.talk(&format!("q{turn}"), &format!("a{turn}"));
    }
    desk.ask("q4");
    let (ticket, _) = desk.request();
    desk.script.report(Report::TooLong { ticket, tokens: 5000, context: 4096, drop: 4 });
    desk.wait(10);
    desk
}

#[test]
fn what_is_too_long_is_never_cut_without_being_asked() {
    let mut desk = too_long();
    let told = desk.app.too_long.clone().unwrap();
    assert_eq!((told.tokens, told.context, told.raise_to), (5000, 4096, Some(6144)));
    assert_eq!(told.drop, (0..4).map(|at| desk.at(at)).collect::<Vec<_>>());
    assert!(matches!(&desk.leaf().state, MessageState::Failed(reason) if reason.contains("5000 tokens") && reason.contains("4096")));
    desk.app.apply(Command::DismissTooLong);
    assert!(desk.app.too_long.is_none() && desk.script.next_answer().is_none());

    let mut desk = too_long();
    desk.app.apply(Command::DropOldest);
    let (ticket, request) = desk.request();
    assert_eq!(contents(&request), ["q3", "a3", "q4"]);
    desk.script.text(ticket, "a4");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(10);
    assert_eq!((desk.shown().len(), desk.shown()[7].as_str()), (8, "a4"), "nothing is deleted");
    assert_eq!(desk.app.chat().head.context_start, Some(desk.at(4)));
    desk.ask("q5");
    assert_eq!(contents(&desk.request().1), ["q3", "a3", "q4", "a4", "q5"], "from now on");
    desk.app.apply(Command::Stop);
    desk.app.apply(Command::ReadAll);
    let leaf = desk.leaf().id;
    desk.app.apply(Command::Regenerate(leaf));
    desk.script.done(Ticket(0), StopReason::Eos, Stats::default());
    desk.wait(10);
    assert_eq!(contents(&desk.request().1).len(), 9);

    let mut desk = too_long();
    desk.app.apply(Command::RaiseContext);
    let context = desk.script.take(|job| if let Job::Answer { context, .. } = job { Some(*context) } else { None }).unwrap();
    assert_eq!((context, desk.app.chat().head.settings.context), (Some(6144), Some(6144)));
}
