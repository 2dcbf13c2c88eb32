//! Models, the inside view and settings.

use std::path::{Path, PathBuf};

use fathom::app::store::{Change, Store};
use fathom::app::worker::{Job, ModelInfo, Report, Ticket};
use fathom::app::{ChatSettings, Command, Fit, Language, MessageState, ModelHeader, ModelRef, Notice, Settings, Stage, Theme, Thinking};
use fathom::engine::{Event, Stats, StopReason, TokenInside};
use fathom::text::Role;

use crate::desk::{Desk, model, turns};

#[test]
fn models_are_opened_cancelled_and_unloaded() {
    let mut desk = Desk::open();
    let path = PathBuf::from("/models/DeepSeek-V2-Lite-Chat");
    desk.app.apply(Command::OpenModel(ModelRef::Path(path.clone())));
    let open =
        |job: &Job| if let Job::Open { ticket, options, cancel } = job { Some((*ticket, options.clone(), cancel.clone())) } else { None };
    let (ticket, options, cancel) = desk.script.take(open).unwrap();
    assert_eq!((options.model, desk.app.opening.as_ref().unwrap().name.as_str()), (Some(path.clone()), "DeepSeek-V2-Lite-Chat"));
    desk.script.report(Report::Measuring { ticket, done: 2, total: 5 });
    desk.wait(10);
    assert_eq!(desk.app.opening.as_ref().unwrap().stage, Stage::Measuring(2, 5));
    let progress = fathom::model::LoadProgress { done_bytes: 3, total_bytes: 9 };
    desk.script.report(Report::Loading { ticket, progress });
    desk.wait(10);
    assert_eq!(desk.app.opening.as_ref().unwrap().stage, Stage::Loading(progress));
    assert!(desk.app.model.is_some(), "the old one stays until then");
    desk.app.apply(Command::CancelOpening);
    assert!(cancel.is_cancelled());
    desk.script.report(Report::OpenCancelled { ticket, kept: true });
    desk.wait(10);
    assert!(desk.app.opening.is_none() && desk.app.model.is_some() && desk.app.notices.is_empty());
    assert_eq!(desk.app.settings.model, Some(ModelRef::Default));

    desk.app.apply(Command::OpenModel(ModelRef::Path(path.clone())));
    let (ticket, ..) = desk.script.take(open).unwrap();
    desk.script.report(Report::TurnedOff { ticket, what: "f16: wrong".into() });
    desk.script.report(Report::Opened { ticket, model: Box::new(ModelInfo { path: path.clone(), is_default: false, ..model() }) });
    desk.wait(10);
    assert_eq!((&desk.app.settings.model, &desk.app.settings.recent_models), (&Some(ModelRef::Path(path.clone())), &vec![path.clone()]));
    assert_eq!(desk.notices(), [Notice::TurnedOff { what: "f16: wrong".into() }]);
    desk.script.report(Report::Memory { held_bytes: 7 });
    desk.script.report(Report::Context { context: 77 });
    desk.wait(10);
    assert_eq!(desk.app.model.as_ref().map(|model| (model.held_bytes, model.context)), Some((7, 77)));

    // Given up for another one, but too late: it runs until the other is there.
    desk.app.apply(Command::OpenModel(ModelRef::Path("/models/late".into())));
    let (late, _, cancel) = desk.script.take(open).unwrap();
    desk.app.apply(Command::OpenModel(ModelRef::Path("/models/other".into())));
    let (other, ..) = desk.script.take(open).unwrap();
    assert!(cancel.is_cancelled());
    desk.script.report(Report::Opened { ticket: late, model: Box::new(ModelInfo { name: "late".into(), ..model() }) });
    desk.script.report(Report::OpenFailed { ticket: other, reason: "no".into(), kept: true });
    desk.wait(10);
    assert_eq!(desk.app.model.as_ref().unwrap().name, "late");

    // A broken file leaves the running model.
    desk.app.apply(Command::OpenModel(ModelRef::Path("/models/broken.gguf".into())));
    let (ticket, ..) = desk.script.take(open).unwrap();
    desk.script.report(Report::OpenFailed { ticket, reason: "broken.gguf: magic".into(), kept: true });
    desk.wait(10);
    assert!(desk.app.model.is_some());
    let failed = Notice::ModelFailed { name: "broken".into(), reason: "broken.gguf: magic".into(), kept: true };
    assert!(desk.notices().contains(&failed));

    desk.ask("q");
    desk.app.apply(Command::UnloadModel);
    desk.script.report(Report::Unloaded);
    desk.wait(10);
    assert!(desk.app.model.is_none() && desk.app.settings.model.is_none() && desk.leaf().state == MessageState::Stopped);
    let mut desk = desk.restart();
    assert!(desk.app.opening.is_none() && desk.app.model.is_none(), "it stays unloaded");
    desk.app.apply(Command::ForgetModel(path));
    assert!(desk.app.settings.recent_models.is_empty());
}

#[test]
fn the_library_is_looked_at_when_asked() {
    let mut desk = Desk::open();
    desk.script.jobs();
    desk.app.apply(Command::AddModelFolder("/big".into()));
    let scan = |job: &Job| if let Job::Scan { ticket, folders, .. } = job { Some((*ticket, folders.clone())) } else { None };
    let (ticket, folders) = desk.script.take(scan).unwrap();
    assert_eq!(folders, [Path::new("/nowhere/fathom/models"), Path::new("/big")]);
    assert!(desk.app.library.scanning);
    let header = ModelHeader {
        architecture: "deepseek_v2".into(),
        layout: "GGUF".into(),
        formats: "Q4_0".into(),
        weight_bytes: 9 << 30,
        cache_bytes_per_token: 1,
        max_positions: 4096,
        layers: 27,
        experts: None,
    };
    assert_eq!(header.fit(desk.app.library.memory_bytes), Fit::TooLarge);
    let entry = fathom::app::ModelEntry { model: ModelRef::Default, path: "/big/m".into(), name: "m".into(), header: Ok(header) };
    desk.script.report(Report::Models { ticket: Ticket(0), models: vec![] });
    desk.script.report(Report::Models { ticket, models: vec![entry.clone()] });
    desk.wait(10);
    assert_eq!((&desk.app.library.models, desk.app.library.scanning), (&vec![entry], false));
    desk.app.apply(Command::RemoveModelFolder("/big".into()));
    desk.app.apply(Command::ScanModels);
    assert!(desk.app.settings.model_folders.is_empty());
    desk.app.apply(Command::ListAdapters);
    let ticket = desk.script.take(|job| if let Job::Adapters { ticket, .. } = job { Some(*ticket) } else { None }).unwrap();
    desk.script.report(Report::Adapters { ticket, adapters: vec![] });
    desk.wait(10);
    assert!(desk.app.library.adapters.is_some());
    desk.app.apply(Command::MeasureKernels);
    desk.app.apply(Command::MeasureKernels);
    assert_eq!(desk.script.jobs().iter().filter(|job| matches!(job, Job::MeasureKernels)).count(), 1);
    desk.script.report(Report::KernelTimes { times: Some(vec![]) });
    desk.wait(10);
    assert!(desk.app.kernel_times.is_some());
}

#[test]
fn an_engine_that_breaks_goes_on_where_it_was() {
    let mut desk = Desk::open();
    desk.ask("q");
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "so ");
    desk.script.report(Report::Broken { ticket: Some(ticket), reason: "the device was lost".into() });
    desk.wait(10);
    assert_eq!(desk.notices(), [Notice::Rebuilding { reason: "the device was lost".into() }]);
    assert_eq!(desk.leaf().state, MessageState::Failed("the device was lost".into()));
    desk.script.report(Report::Rebuilt { model: Box::new(model()) });
    desk.wait(10);
    assert_eq!(desk.notices(), [Notice::Rebuilt { reason: "the device was lost".into() }]);
    let (ticket, request) = desk.request();
    assert_eq!(request.begun.unwrap().text, "so ");
    // The same answer breaks it again: it is not tried for ever.
    desk.script.report(Report::Broken { ticket: Some(ticket), reason: "again".into() });
    desk.script.report(Report::Rebuilt { model: Box::new(model()) });
    desk.wait(10);
    assert!(desk.script.next_answer().is_none());
    assert_eq!((desk.leaf().content.as_str(), &desk.leaf().state), ("so ", &MessageState::Failed("again".into())));
    desk.ask("another");
    assert!(desk.script.answer("fine"));
    desk.wait(10);
    assert_eq!(desk.leaf().content, "fine");
    // The engine mends a lost device by itself: the answer goes on.
    desk.app.notices.clear();
    desk.ask("lost");
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "one ");
    desk.script.event(ticket, Event::Rebuild("the device was lost: reset".into()));
    desk.wait(10);
    assert_eq!(desk.notices(), [Notice::Rebuilding { reason: "the device was lost: reset".into() }]);
    desk.script.event(ticket, Event::Prefill { done: 0, total: 3 });
    desk.script.text(ticket, "two");
    desk.script.done(ticket, StopReason::Eos, Stats::default());
    desk.wait(10);
    assert_eq!(
        (desk.leaf().content.as_str(), desk.notices()),
        ("one two", vec![Notice::Rebuilt { reason: "the device was lost: reset".into() }])
    );
    desk.ask("last");
    let (ticket, _) = desk.request();
    desk.script.report(Report::Broken { ticket: Some(ticket), reason: "x".into() });
    desk.script.report(Report::RebuildFailed { reason: "no GPU adapter found".into() });
    desk.wait(10);
    assert!(desk.app.model.is_none());
    assert!(desk.notices().contains(&Notice::RebuildFailed { reason: "no GPU adapter found".into() }));
}

#[test]
fn the_inside_is_watched_only_while_it_is_shown() {
    let mut desk = Desk::open();
    desk.talk("q", "a");
    let plain = desk.leaf().id;
    assert!(desk.app.inside(plain).is_none());
    desk.app.apply(Command::SetSettings(Box::new(Settings { inside: true, ..desk.app.settings.clone() })));
    desk.app.apply(Command::Regenerate(plain));
    let (ticket, request) = desk.request();
    assert!(request.watch);
    let token = |answer_end| TokenInside {
        id: 7,
        text: "b".into(),
        reasoning_end: 0,
        answer_end,
        probability: 0.5,
        candidates: vec![],
        layers: vec![],
    };
    desk.script.text(ticket, "bb");
    desk.script.event(ticket, Event::Inside(token(2)));
    desk.script.done(ticket, StopReason::Length, Stats::default());
    desk.wait(10);
    let id = desk.leaf().id;
    desk.app.apply(Command::Continue(id));
    let (ticket, _) = desk.request();
    desk.script.text(ticket, "ccc");
    desk.script.event(ticket, Event::Inside(token(3)));
    desk.wait(10);
    let ends: Vec<usize> = desk.app.inside(id).unwrap().iter().map(|token| token.answer_end).collect();
    assert_eq!(ends, [2, 5], "counted from the message's beginning");
}

#[test]
fn settings_of_chats_and_presets_reach_the_request() {
    let mut desk = Desk::open();
    let settings = ChatSettings {
        system: "Speak French.".into(),
        temperature: Some(0.0),
        top_k: Some(5),
        min_p: Some(0.1),
        seed: Some(42),
        max_tokens: Some(64),
        context: Some(512),
        thinking: Thinking::Off,
        ..ChatSettings::default()
    };
    desk.app.apply(Command::SetChatSettings(settings.clone()));
    desk.app.apply(Command::SavePreset(" French ".into()));
    desk.ask("Hi");
    let job = |job: &Job| if let Job::Answer { request, context, .. } = job { Some((request.clone(), *context)) } else { None };
    let (request, context) = desk.script.take(job).unwrap();
    assert_eq!(turns(&request)[0], (Role::System, "Speak French.".to_string()));
    let sampling = request.sampling;
    assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.seed), (0.0, 5, 0.95, 0.1, 42));
    assert_eq!((request.max_tokens, request.thinking, context), (Some(64), Some(false), Some(512)));
    desk.app.apply(Command::Stop);
    desk.app.apply(Command::NewChat);
    assert_eq!(desk.app.chat().head.settings, ChatSettings::default());
    desk.app.apply(Command::ApplyPreset("French".into()));
    desk.app.apply(Command::ApplyPreset("absent".into()));
    assert_eq!(desk.app.chat().head.settings, settings);
    desk.app.apply(Command::SetChatSettings(ChatSettings::default()));
    desk.app.apply(Command::SavePreset("French".into()));
    desk.app.apply(Command::SavePreset("".into()));
    let mut desk = desk.restart();
    assert_eq!((desk.app.presets.len(), &desk.app.presets[0].settings), (1, &ChatSettings::default()), "saved over");
    desk.app.apply(Command::DeletePreset("French".into()));
    assert!(desk.restart().app.presets.is_empty());
}

#[test]
fn the_programs_settings_are_kept_and_a_devices_change_opens_the_model_anew() {
    let mut desk = Desk::open();
    desk.script.jobs();
    let mut settings = desk.app.settings.clone();
    (settings.theme, settings.language, settings.zoom) = (Theme::Dark, Language::Chinese, 99.0);
    settings.new_chat.system = "Always kind.".into();
    desk.app.apply(Command::SetSettings(Box::new(settings)));
    assert_eq!((desk.app.settings.zoom, desk.script.jobs().len()), (3.0, 0), "within bounds, and nothing to open");
    desk.app.apply(Command::SetSettings(Box::new(Settings {
        adapter: Some("llvmpipe".into()),
        disabled: vec!["f16".into()],
        ..desk.app.settings.clone()
    })));
    let options = desk.script.take(|job| if let Job::Open { options, .. } = job { Some(options.clone()) } else { None }).unwrap();
    assert_eq!((options.gpu.adapter.as_deref(), options.gpu.disabled.0.len()), (Some("llvmpipe"), 1));
    let desk = desk.restart();
    assert_eq!((desk.app.settings.theme, desk.app.settings.language), (Theme::Dark, Language::Chinese));
    assert_eq!(desk.app.chat().head.settings.system, "Always kind.");
    // What another version wrote and cannot be read is as if it were not set.
    desk.store.inner.borrow_mut().write(&[Change::Setting("settings", "{\"zoom\": \"wide\"}".into())]).unwrap();
    assert_eq!(desk.restart().app.settings, Settings::default());
}
