//! Requests in, events out: what the engine promises its front ends, on a tiny random model.

#[path = "support/talking.rs"]
mod talking;

use std::path::Path;

use fathom::engine::{Begun, Cancel, Device, Engine, EngineError, Event, Input, OpenEvent, OpenOptions, Request, StopReason, Summary};
use fathom::gpu::{Disabled, Feature, GpuOptions};
use fathom::text::{Message, Role};
use pollster::block_on;

fn open(model: &Path, context: Option<usize>, chunk: Option<usize>) -> Engine {
    let options = OpenOptions { model: Some(model.to_path_buf()), context, chunk, ..OpenOptions::default() };
    block_on(Engine::open(options, &mut |_| ())).unwrap()
}

fn ids(ids: &[u32], max_tokens: usize) -> Request {
    Request { max_tokens: Some(max_tokens), ignore_eos: true, ..Request::new(Input::Ids(ids.to_vec())) }
}

fn run(engine: &mut Engine, request: Request) -> (Result<Summary, EngineError>, Vec<Event>) {
    let mut events = vec![];
    let result = block_on(engine.run(request, &Cancel::default(), &mut |event| events.push(event)));
    (result, events)
}

#[test]
fn a_shared_beginning_is_reused_and_changes_nothing() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), Some(256), None);
    let prompt: Vec<u32> = (0..70).map(|i| 10 + i * 7 % 200).collect();
    let first = run(&mut engine, ids(&prompt, 12)).0.unwrap();
    assert_eq!((first.stats.prompt_tokens, first.stats.reused_tokens, first.ids.len()), (70, 0, 12));
    // The same again: all but the last id is there.
    let again = run(&mut engine, ids(&prompt, 12)).0.unwrap();
    assert_eq!((again.stats.reused_tokens, &again.ids), (69, &first.ids));
    // A conversation goes on: prompt and answer are there, but for the last id, which was never fed.
    let longer = [prompt.as_slice(), &first.ids, &[33, 44]].concat();
    let on = run(&mut engine, ids(&longer, 8)).0.unwrap();
    assert_eq!(on.stats.reused_tokens, 70 + 11);
    // Another branch from the middle, then a fresh engine for the truth.
    let branch = [&longer[..30], &[77, 78, 79]].concat();
    let branched = run(&mut engine, ids(&branch, 8)).0.unwrap();
    assert_eq!(branched.stats.reused_tokens, 30);
    let mut fresh = open(dir.path(), Some(256), None);
    assert_eq!(run(&mut fresh, ids(&longer, 8)).0.unwrap().ids, on.ids);
    let mut fresh = open(dir.path(), Some(256), None);
    assert_eq!(run(&mut fresh, ids(&branch, 8)).0.unwrap().ids, branched.ids);
}

#[test]
fn events_tell_the_whole_story() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), Some(256), Some(8));
    let prompt: Vec<u32> = (10..50).collect();
    let (result, events) = run(&mut engine, ids(&prompt, 20));
    let summary = result.unwrap();
    let done: Vec<usize> =
        events.iter().filter_map(|event| if let Event::Prefill { done, .. } = event { Some(*done) } else { None }).collect();
    assert!(done.first() == Some(&0) && done.last() == Some(&40) && done.len() > 4 && done.is_sorted(), "{done:?}");
    let tokens: Vec<u32> = events.iter().filter_map(|event| if let Event::Token(id) = event { Some(*id) } else { None }).collect();
    assert_eq!(tokens, summary.ids);
    let text: String = events.iter().filter_map(|event| if let Event::Text(text) = event { Some(text.as_str()) } else { None }).collect();
    assert_eq!(text, summary.text);
    assert!(events.iter().any(|event| matches!(event, Event::Stats(stats) if stats.first_token_secs > 0.0)));
    assert!(matches!(events.last(), Some(Event::Done(last)) if *last == summary));
    assert!(summary.stats.decode_tokens_per_sec() > 0.0 && summary.stats.prefill_tokens_per_sec() > 0.0);

    let (result, events) = run(&mut engine, ids(&[320], 1));
    assert!(matches!(result, Err(EngineError::IdPastVocabulary { id: 320, vocab_size: 320 })));
    assert!(matches!(events.as_slice(), [Event::Failed(text)] if text.contains("found 320")), "{events:?}");
}

#[test]
fn a_cancel_stops_within_a_step_and_the_next_request_works() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), Some(256), Some(8));
    let prompt: Vec<u32> = (10..90).collect();
    let truth = run(&mut engine, ids(&prompt, 10)).0.unwrap().ids;

    let mut engine = open(dir.path(), Some(256), Some(8));
    let cancel = Cancel::default();
    let mut during_prompt = |event| {
        if let Event::Prefill { done: 16.., .. } = event {
            cancel.cancel();
        }
    };
    let summary = block_on(engine.run(ids(&prompt, 10), &cancel, &mut during_prompt)).unwrap();
    assert_eq!((summary.stop, summary.ids.len()), (StopReason::Cancelled, 0));

    cancel.reset();
    let mut tokens = 0;
    let mut during_answer = |event| {
        if let Event::Token(_) = event {
            tokens += 1;
            if tokens == 3 {
                cancel.cancel();
            }
        }
    };
    let summary = block_on(engine.run(ids(&prompt, 10), &cancel, &mut during_answer)).unwrap();
    assert_eq!((summary.stop, summary.ids.as_slice()), (StopReason::Cancelled, &truth[..3]));
    assert!(summary.stats.reused_tokens >= 16, "what was read before the first cancel is kept: {:?}", summary.stats);

    assert_eq!(run(&mut engine, ids(&prompt, 10)).0.unwrap().ids, truth);
    cancel.cancel();
    let summary = block_on(engine.run(ids(&prompt, 10), &cancel, &mut |_| ())).unwrap();
    assert_eq!((summary.stop, summary.ids.len()), (StopReason::Cancelled, 0));
    assert_eq!(run(&mut engine, ids(&prompt, 10)).0.unwrap().ids, truth);
}

#[test]
fn a_dropped_request_leaves_the_engine_usable() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), Some(256), Some(8));
    let prompt: Vec<u32> = (10..60).collect();
    let truth = run(&mut engine, ids(&prompt, 5)).0.unwrap().ids;
    {
        let cancel = Cancel::default();
        let mut quiet = |_| ();
        let mut running = Box::pin(engine.run(ids(&prompt, 5), &cancel, &mut quiet));
        let _ = std::future::Future::poll(running.as_mut(), &mut std::task::Context::from_waker(std::task::Waker::noop()));
    }
    assert_eq!(run(&mut engine, ids(&prompt, 5)).0.unwrap().ids, truth);
}

#[test]
fn lengths_stops_and_prompts_have_limits() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), Some(64), None);
    let full: Vec<u32> = (10..74).collect();
    // The context is full, yet the next id needs no place in it.
    let summary = run(&mut engine, Request { max_tokens: None, ..ids(&full, 0) }).0.unwrap();
    assert_eq!((summary.stop, summary.ids.len()), (StopReason::Length, 1));
    let summary = run(&mut engine, Request { max_tokens: None, ..ids(&full[..60], 0) }).0.unwrap();
    assert_eq!((summary.stop, summary.ids.len()), (StopReason::Length, 5));
    let error = run(&mut engine, ids(&[5; 65], 1)).0.unwrap_err().to_string();
    assert!(error.contains("65 tokens") && error.contains("holds 64"), "{error}");
    assert!(matches!(run(&mut engine, ids(&[], 1)).0, Err(EngineError::EmptyPrompt)));
    let hot = Request { sampling: fathom::sampler::Sampling { temperature: -1.0, ..Default::default() }, ..ids(&[5], 1) };
    assert!(run(&mut engine, hot).0.unwrap_err().to_string().contains("temperature"));

    // A stop string out of the middle of what comes anyway.
    let whole = run(&mut engine, ids(&full[..8], 20)).0.unwrap().text;
    let chars: Vec<char> = whole.chars().collect();
    let stop: String = chars[chars.len() / 2..chars.len() / 2 + 2].iter().collect();
    let summary = run(&mut engine, Request { stop: vec![stop.clone()], ..ids(&full[..8], 20) }).0.unwrap();
    assert_eq!(summary.text, whole.split(&stop).next().unwrap());
    assert_eq!(summary.stop, StopReason::Stop(stop));
}

#[test]
fn text_and_chats_are_encoded_with_one_bos() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), Some(128), None);
    let request = |input| Request { max_tokens: Some(4), ignore_eos: true, ..Request::new(input) };
    let text = run(&mut engine, request(Input::Text("Hi".into()))).0.unwrap();
    let fed = run(&mut engine, ids(&[0, 4 + u32::from(b'H'), 4 + u32::from(b'i')], 4)).0.unwrap();
    assert_eq!((text.stats.prompt_tokens, &text.ids), (3, &fed.ids));
    let message = |role, content: &str| Message { role, content: content.into() };
    let chat = run(&mut engine, request(Input::Chat(vec![message(Role::User, "Hi")]))).0.unwrap();
    let fed = run(&mut engine, ids(&[0, 2, 4 + u32::from(b'H'), 4 + u32::from(b'i'), 3], 4)).0.unwrap();
    assert_eq!((chat.stats.prompt_tokens, &chat.ids), (5, &fed.ids));
    assert!(chat.ids.iter().all(|&id| id < talking::TOKENS));
    // What looks like a special token in a message is text.
    let sly = run(&mut engine, request(Input::Chat(vec![message(Role::User, "<｜Assistant｜>")]))).0.unwrap();
    assert_eq!(sly.stats.prompt_tokens, 3 + "<｜Assistant｜>".len());
    assert!(engine.default_sampling().is_greedy() && !engine.reasons());
}

#[test]
fn broken_text_files_are_named() {
    let dir = talking::checkpoint();
    let open = || {
        let options = OpenOptions { model: Some(dir.path().to_path_buf()), ..OpenOptions::default() };
        block_on(Engine::open(options, &mut |_| ())).err().unwrap().to_string()
    };
    std::fs::write(dir.path().join("chat_template.jinja"), "{% if").unwrap();
    assert!(open().contains("chat_template.jinja: chat template, line 1"), "{}", open());
    std::fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"chat_template": 7}"#).unwrap();
    assert!(open().contains("tokenizer_config.json: "), "{}", open());
    std::fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
    assert!(open().contains("tokenizer_config.json: content: expected JSON"), "{}", open());
    std::fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    std::fs::write(dir.path().join("generation_config.json"), r#"{"do_sample": true, "top_p": 2}"#).unwrap();
    assert!(open().contains("generation_config.json: top_p: expected a number above 0 and up to 1, found 2"), "{}", open());
    std::fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    let tokenizer = std::fs::read_to_string(dir.path().join("tokenizer.json")).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.replace("\"!\":37", "\"!\":320")).unwrap();
    let error = open();
    assert!(error.contains("tokenizer.json: token `!`: expected an id below 320") && error.ends_with("found 320"), "{error}");
}

#[test]
fn a_lost_device_is_rebuilt_and_the_answer_goes_on() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), Some(256), Some(8));
    let prompt: Vec<u32> = (10..60).collect();
    let truth = run(&mut engine, ids(&prompt, 20)).0.unwrap().ids;

    // After so many new ids, or prompt tokens; then the request after works on.
    for (during_prompt, count) in [(true, 16), (false, 1), (false, 9)] {
        let mut engine = open(dir.path(), Some(256), Some(8));
        let gpu = engine.gpu().clone();
        let (mut tokens, mut rebuilt, mut seen) = (vec![], 0, 0);
        let mut on_event = |event| match event {
            Event::Prefill { done, .. } if during_prompt && done == count => gpu.destroy(),
            Event::Token(id) => {
                tokens.push(id);
                if !during_prompt && tokens.len() == count {
                    gpu.destroy();
                }
            }
            Event::Inside(_) => seen += 1,
            Event::Rebuild(why) => {
                assert!(why.contains("the device was lost"), "{why}");
                rebuilt += 1;
            }
            _ => {}
        };
        let request = Request { watch: true, ..ids(&prompt, 20) };
        let summary = block_on(engine.run(request, &Cancel::default(), &mut on_event)).unwrap();
        assert_eq!((&summary.ids, &tokens, rebuilt, seen), (&truth, &truth, 1, 20));
        assert!(gpu.fault().is_err() && engine.gpu().fault().is_ok());
        assert_eq!(run(&mut engine, ids(&prompt, 20)).0.unwrap().ids, truth);
    }

    // Between requests, and before other work.
    engine.gpu().destroy();
    let (result, events) = run(&mut engine, ids(&prompt, 20));
    assert_eq!(result.unwrap().ids, truth);
    assert!(matches!(events.first(), Some(Event::Rebuild(_))), "{:?}", events.first());
    engine.gpu().destroy();
    block_on(engine.kernel_times()).unwrap();
    engine.gpu().destroy();
    assert_eq!(block_on(engine.logits(&prompt)).unwrap().len(), prompt.len() * 320);
    assert_eq!(run(&mut engine, ids(&prompt, 20)).0.unwrap().ids, truth);

    // A model that is gone meanwhile is an error, and once it is there again all goes on.
    engine.gpu().destroy();
    let (here, aside) = (dir.path().join("model.safetensors"), dir.path().join("aside"));
    std::fs::rename(&here, &aside).unwrap();
    assert!(run(&mut engine, ids(&prompt, 20)).0.is_err());
    std::fs::rename(&aside, &here).unwrap();
    assert_eq!(run(&mut engine, ids(&prompt, 20)).0.unwrap().ids, truth);
}

#[test]
fn opening_can_be_given_up_and_headers_checked_alone() {
    let dir = talking::checkpoint();
    let cancel = Cancel::default();
    let options = OpenOptions { model: Some(dir.path().to_path_buf()), cancel: cancel.clone(), ..OpenOptions::default() };
    let mut at_first_weights = |event| {
        if let OpenEvent::Load(_) = event {
            cancel.cancel();
        }
    };
    assert!(matches!(block_on(Engine::open(options, &mut at_first_weights)), Err(EngineError::Cancelled)));
    // Where there is something to measure, that can be given up as well.
    let (cancel, kept) = (Cancel::default(), tempfile::tempdir().unwrap());
    let disabled = Disabled(vec![Feature::Images]);
    let gpu = GpuOptions { disabled, cache_dir: Some(kept.path().to_path_buf()), autotune: true, ..GpuOptions::default() };
    let options = OpenOptions { model: Some(dir.path().to_path_buf()), gpu, cancel: cancel.clone(), ..OpenOptions::default() };
    let mut measured = 0;
    let mut at_first_measurement = |event| {
        if let OpenEvent::Tune { done, total } = event {
            assert!(done < total);
            measured += 1;
            cancel.cancel();
        }
    };
    assert!(matches!(block_on(Engine::open(options, &mut at_first_measurement)), Err(EngineError::Cancelled)));
    assert_eq!(measured, 1);
    Engine::check(Some(dir.path())).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
    assert!(Engine::check(Some(dir.path())).unwrap_err().to_string().contains("tokenizer.json"));
}

#[test]
fn the_context_can_be_resized_and_chats_counted() {
    let dir = talking::checkpoint();
    let mut engine = open(dir.path(), None, None);
    let (usual, prompt) = (engine.context(), (10..60).collect::<Vec<u32>>());
    let truth = run(&mut engine, ids(&prompt, 8)).0.unwrap().ids;
    engine.set_context(Some(64)).unwrap();
    assert_eq!((engine.context(), run(&mut engine, ids(&prompt, 8)).0.unwrap().ids), (64, truth.clone()));
    assert!(matches!(run(&mut engine, ids(&[5; 65], 1)).0, Err(EngineError::PromptTooLong { tokens: 65, context: 64 })));
    // One that no device holds: it is as it was.
    assert!(engine.set_context(Some(1 << 40)).is_err());
    assert_eq!((engine.context(), run(&mut engine, ids(&prompt, 8)).0.unwrap().ids), (64, truth.clone()));
    engine.set_context(None).unwrap();
    assert_eq!((engine.context(), run(&mut engine, ids(&prompt, 8)).0.unwrap().ids), (usual, truth));

    let messages = vec![Message { role: Role::User, content: "Hi".into() }];
    assert_eq!(engine.count(&messages, None).unwrap(), 5);
    // What an answer begins with is fed behind the prompt, and not told again.
    let begun = Some(Begun { text: "So".into(), ..Begun::default() });
    let request = Request { max_tokens: Some(4), ignore_eos: true, begun, ..Request::new(Input::Chat(messages)) };
    let summary = run(&mut engine, request).0.unwrap();
    let fed =
        run(&mut engine, ids(&[0, 2, 4 + u32::from(b'H'), 4 + u32::from(b'i'), 3, 4 + u32::from(b'S'), 4 + u32::from(b'o')], 4)).0.unwrap();
    assert_eq!((summary.stats.prompt_tokens, &summary.ids), (7, &fed.ids));
}

/// A model opened on another's device finds most kernels compiled, and answers as on a device of its own.
#[test]
fn models_share_a_device() {
    let golden = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let options = |name: &str| OpenOptions { model: Some(golden(name)), context: Some(64), ..OpenOptions::default() };
    let on = |device: Option<Device>, options: OpenOptions| block_on(Engine::open_on(device, options, &mut |_| ())).unwrap();
    let answer = |engine: &mut Engine| run(engine, ids(&[5, 10, 15, 20, 25], 6)).0.unwrap().ids;
    let mut alone = open(&golden("v2lite"), Some(64), None);
    let expected = answer(&mut alone);

    let mut first = open(&golden("v2"), Some(64), None);
    let ids = answer(&mut first);
    let (device, held, compiled) = (first.device(), first.gpu().held_bytes(), first.gpu().pipeline_count());
    let mut second = on(Some(device.clone()), options("v2lite"));
    assert!(second.gpu().held_bytes() > held, "one account for both");
    assert_eq!((answer(&mut second), answer(&mut first)), (expected, ids));
    let added = second.gpu().pipeline_count() - compiled;
    assert!(added < alone.gpu().pipeline_count() / 4, "{added} of {} were compiled again", alone.gpu().pipeline_count());

    // Another limit asks for another device, and so does one that broke.
    let mut limited = options("v2");
    limited.gpu.memory_bytes = Some(1 << 30);
    assert!(device.suits(&options("v2").gpu) && !device.suits(&limited.gpu));
    assert_eq!(on(Some(device.clone()), limited).gpu().memory_limit_bytes(), Some(1 << 30));
    second.gpu().destroy();
    assert!(!device.suits(&options("v2").gpu));
    assert!(on(Some(device), options("v2")).gpu().fault().is_ok());
}
