//! A window without a screen: the app over memory and a script, drawn by the real view, driven by keys and clicks.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use eframe::egui;
use egui_kittest::{Harness, SnapshotOptions};
use fathom::app::store::MemoryStore;
use fathom::app::ui::{Ask, Dialogs, View};
use fathom::app::worker::{Job, ModelInfo, Report, Script, ScriptedWorker};
use fathom::app::{App, Command, Language, Places, Settings, Theme};
use fathom::engine::{Candidate, Event, LayerRouting, ModelInside, Stats, StopReason, TokenInside};

/// A morning in November 2025, UTC.
pub const NOW_MS: i64 = 1_764_061_200_000;

pub const STATS: Stats = Stats { prompt_tokens: 812, reused_tokens: 0, new_tokens: 173, first_token_secs: 0.42, decode_secs: 5.51 };

/// What a test says and sees of file dialogs.
#[derive(Clone, Default)]
pub struct ScriptedDialogs(Rc<RefCell<(Vec<Ask>, Vec<Command>)>>);

impl ScriptedDialogs {
    pub fn asked(&self) -> Vec<Ask> {
        std::mem::take(&mut self.0.borrow_mut().0)
    }

    pub fn choose(&self, command: Command) {
        self.0.borrow_mut().1.push(command);
    }
}

impl Dialogs for ScriptedDialogs {
    fn ask(&mut self, _ctx: &egui::Context, ask: Ask) {
        self.0.borrow_mut().0.push(ask);
    }

    fn poll(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.0.borrow_mut().1)
    }
}

pub struct Stage {
    pub app: App,
    view: Option<View>,
    pub script: Script,
    pub dialogs: ScriptedDialogs,
    pub clock: Arc<AtomicI64>,
    /// What the view wished for since it was last looked at.
    pub commands: Vec<Command>,
}

impl Stage {
    pub fn new(theme: Theme) -> Self {
        let (worker, script) = ScriptedWorker::new();
        let clock = Arc::new(AtomicI64::new(NOW_MS));
        let now = clock.clone();
        let places = Places { data: Some(PathBuf::from("/home/ada/.local/share/fathom")), ..Places::default() };
        let mut app = App::new(Box::new(MemoryStore::default()), Box::new(worker), Box::new(move || now.load(Ordering::Relaxed)), places);
        let settings = Settings { theme, language: Language::English, ..app.settings.clone() };
        app.apply(Command::SetSettings(Box::new(settings)));
        Self { app, view: None, script, dialogs: ScriptedDialogs::default(), clock, commands: vec![] }
    }

    /// With a Mixture-of-Experts model open.
    pub fn with_model(theme: Theme) -> Self {
        let mut stage = Self::new(theme);
        stage.app.start();
        assert!(stage.script.open(model()), "no model was asked for");
        stage.app.poll();
        stage
    }

    pub fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.app.settings.clone();
        change(&mut settings);
        self.app.apply(Command::SetSettings(Box::new(settings)));
    }

    pub fn later(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    /// Asks, in the chat in front.
    pub fn ask(&mut self, question: &str) {
        self.app.apply(Command::SetDraft(question.to_owned()));
        self.app.apply(Command::Send);
        self.app.poll();
    }

    /// Asks and answers.
    pub fn exchange(&mut self, question: &str, answer: &str) {
        self.ask(question);
        self.answer(answer);
    }

    pub fn answer(&mut self, answer: &str) {
        let (ticket, _) = self.script.next_answer().expect("no answer was asked for");
        self.later(2000);
        self.script.text(ticket, answer);
        self.script.done(ticket, StopReason::Eos, STATS);
        self.app.poll();
        self.count();
    }

    /// Counts the chat's tokens, as the worker does when it is asked.
    pub fn count(&mut self) {
        self.later(1000);
        self.app.poll();
        while let Some(ticket) = self.script.take(|job| if let Job::Count { ticket, .. } = job { Some(*ticket) } else { None }) {
            self.script.report(Report::Counted { ticket, tokens: STATS.prompt_tokens + STATS.new_tokens });
        }
        self.app.poll();
    }

    /// A chat of the past.
    pub fn past_chat(&mut self, ago_ms: i64, question: &str, answer: &str) {
        self.clock.store(NOW_MS - ago_ms, Ordering::Relaxed);
        self.app.apply(Command::NewChat);
        self.exchange(question, answer);
        self.clock.store(NOW_MS, Ordering::Relaxed);
        self.app.apply(Command::NewChat);
    }

    pub fn frame(&mut self, ui: &mut egui::Ui) {
        self.app.poll();
        let dialogs = self.dialogs.clone();
        let Some(view) = &mut self.view else {
            // Fonts are there from the next frame on.
            self.view = Some(View::new(ui.ctx(), Box::new(dialogs)));
            ui.ctx().request_repaint();
            return;
        };
        // The harness leaves a margin around what it draws, a window does not.
        let whole = ui.ctx().content_rect();
        let mut window = ui.new_child(egui::UiBuilder::new().max_rect(whole));
        window.set_clip_rect(whole);
        let mut commands = vec![];
        view.show(&mut window, &self.app, &mut commands);
        for command in commands {
            self.commands.push(command.clone());
            self.app.apply(command);
        }
    }
}

pub fn model() -> ModelInfo {
    let model = ModelInfo::on_paper("v2-lite").expect("a known shape");
    ModelInfo { name: "DeepSeek-V2-Lite-Chat".to_owned(), context: 8192, memory_limit_bytes: Some(16 << 30), ..model }
}

/// How near a picture must be to the one in the repository.
pub fn options() -> SnapshotOptions {
    SnapshotOptions::new().threshold(1.5).max_failed_pixels(120)
}

/// Which fonts there are beside the bundled ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fonts {
    Bundled,
    /// And the system's: what a user sees, but not the same everywhere.
    System,
}

pub fn harness(size: [f32; 2], scale: f32, fonts: Fonts, stage: Stage) -> Harness<'static, Stage> {
    let builder = Harness::builder().with_size(size).with_pixels_per_point(scale).with_options(options()).with_max_steps(24);
    let builder = builder.with_context_setup(move |ctx| {
        if fonts == Fonts::System {
            let provider = egui_system_font_provider::SystemFontProvider::new().with_locale(Some("zh-Hans"));
            ctx.add_font_provider(Arc::new(provider));
        }
    });
    let mut harness = builder.wgpu().build_ui_state(|ui, stage: &mut Stage| stage.frame(ui), stage);
    harness.run();
    harness
}

/// Numbers that look like chance and are the same each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }
}

/// A token as a model of this shape may have made it.
pub fn token(dice: &mut Dice, inside: &ModelInside, text: &str, answer_end: usize) -> Event {
    let id = (dice.roll() * 50_000.0) as u32;
    let probability = 0.35 + 0.6 * dice.roll();
    let mut left = 1.0 - probability;
    let mut candidates = vec![Candidate { id, text: text.to_owned(), probability }];
    for (at, other) in [" the", " a", " in", " of"].into_iter().enumerate() {
        let probability = left * (0.3 + 0.3 * dice.roll());
        left -= probability;
        candidates.push(Candidate { id: 60_000 + at as u32, text: other.to_owned(), probability });
    }
    let layers = inside.moe_layers.iter().map(|&layer| {
        let mut experts: Vec<(u32, f32)> = vec![];
        while experts.len() < inside.top_k {
            // Some experts are liked more than others, each layer its own.
            let skewed = dice.roll() * dice.roll().sqrt() * inside.experts as f32;
            let expert = (skewed as usize * 7 + layer * 13) % inside.experts;
            if !experts.iter().any(|(other, _)| *other as usize == expert) {
                experts.push((expert as u32, 0.05 + dice.roll() * dice.roll()));
            }
        }
        experts.sort_by_key(|(expert, _)| *expert);
        LayerRouting { layer, experts }
    });
    Event::Inside(TokenInside {
        id,
        text: text.to_owned(),
        reasoning_end: 0,
        answer_end,
        probability,
        candidates,
        layers: layers.collect(),
    })
}

/// The wheel turned back by so many points.
pub fn wheel(points: f32) -> egui::Event {
    egui::Event::MouseWheel {
        unit: egui::MouseWheelUnit::Point,
        delta: egui::vec2(0.0, points),
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Unknown,
        modifiers: egui::Modifiers::NONE,
    }
}
