//! The command line: what can be said, and what it means for the library.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fathom::engine::{OpenOptions, user_cache_dir};
use fathom::gpu::{Disabled, Feature, GpuOptions};
use fathom::kernels::CacheFormat;
use fathom::sampler::Sampling;

/// Chats with, measures and explains DeepSeek-family models on any GPU
#[derive(Parser, Debug)]
#[command(
    name = "fathom",
    version,
    max_term_width = 110,
    propagate_version = true,
    after_help = "\
Examples:
  fathom app                                    chat in a window
  fathom chat                                   chat in the terminal with the embedded default
  fathom chat -p \"Why is the sky blue?\"         one answer on stdout
  fathom chat ~/models/DeepSeek-V2-Lite-Chat    a checkpoint in the Hugging Face layout
  fathom doctor                                 what this machine can do

MODEL is a directory in the Hugging Face layout, a .gguf file, or absent for the embedded default.
Without a command, the window opens where there is a display, else a chat in the terminal."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Chat in a window
    #[command(after_help = "\
Examples:
  fathom app
  fathom app ~/models/DeepSeek-V2-Lite-Chat
  fathom app model.gguf --adapter 1 --memory 6G
  fathom app --data ~/chats-of-work

The window remembers its model; MODEL opens another one. Device flags hold until the window is closed.
Chats are kept in the user's data directory, such as ~/.local/share/fathom on Linux.")]
    App(AppArgs),
    /// Chat in the terminal, or answer one prompt
    #[command(after_help = "\
Examples:
  fathom chat
  fathom chat -p \"What is the capital of France?\"
  echo \"Summarise: ...\" | fathom chat -p -
  fathom chat model.gguf --system \"Answer in French.\" --temperature 0.7 --seed 1

Within a chat, /help lists the commands; Ctrl-C stops an answer.")]
    Chat(ChatArgs),
    /// Continue token ids and print the new ones
    #[command(after_help = "\
Examples:
  fathom generate path/to/model --ids 1,2,3 --max-tokens 32 --temperature 0
  fathom generate path/to/model --ids 1,2,3 --max-tokens 32 --ignore-eos")]
    Generate(GenerateArgs),
    /// Write the logits after every one of the given ids
    #[command(after_help = "\
Example:
  fathom logits path/to/model --ids 1,2,3 --output logits.safetensors

The file holds the tensor \"logits\", f32 [tokens, vocab].")]
    Logits(LogitsArgs),
    /// Show the recorded dispatches of one decode step
    #[command(after_help = "\
Examples:
  fathom plan
  fathom plan path/to/model --prefill 64 --full")]
    Plan(PlanArgs),
    /// Print a kernel's composed shader text
    #[command(after_help = "\
Examples:
  fathom wgsl rms_norm
  fathom wgsl matvec --list
  fathom wgsl matvec --variant 3 --browser")]
    Wgsl(WgslArgs),
    /// Show adapters, limits, memory and whether the kernels compute rightly
    #[command(after_help = "\
Examples:
  fathom doctor
  fathom doctor path/to/model
  fathom doctor --adapter 1 --disable subgroups")]
    Doctor(DoctorArgs),
    /// Measure kernels or a model
    #[command(
        subcommand,
        after_help = "\
Examples:
  fathom bench kernels
  fathom bench model --prompt 128 --tokens 64 --runs 3
  fathom bench model --shape lite-slice --weights q4 --json > now.json
  fathom bench model --shape lite-slice --weights q4 --compare now.json"
    )]
    Bench(BenchCommand),
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// Part of an adapter's name, or its index in `fathom doctor`'s list
    #[arg(long, global = true, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
    /// Graphics interface to go through
    #[arg(long, global = true)]
    pub backend: Option<Backend>,
    /// Abilities not to use: subgroups, f16, coop, images, barriers; generate and logits never use coop, which rounds
    #[arg(long, global = true, value_name = "LIST")]
    pub disable: Option<Disabled>,
    /// Tokens of prompt and answer together
    #[arg(long, global = true, value_name = "N", value_parser = positive)]
    pub context: Option<usize>,
    /// The most device memory to use, in bytes or with K, M or G
    #[arg(long, global = true, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<u64>,
    /// Prompt tokens in one step, 1024 at the most
    #[arg(long, global = true, value_name = "N", value_parser = positive)]
    pub chunk: Option<usize>,
    /// What the latent cache keeps its numbers in: f32, f16 or q8 [default: f16; f32 for generate and logits]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub cache: Option<CacheFormat>,
    /// The same sums whatever runs beside, at any batch size
    #[arg(long, global = true)]
    pub deterministic: bool,
    /// Do not measure on first use which lanes suit each kernel on this device, nor use what was measured
    #[arg(long, global = true)]
    pub no_autotune: bool,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum Backend {
    Vulkan,
    Metal,
    Dx12,
    Gl,
}

impl DeviceArgs {
    pub fn gpu(&self) -> GpuOptions {
        let backend = self.backend.and_then(|backend| Some(backend.to_possible_value()?.get_name().to_string()));
        GpuOptions {
            adapter: self.adapter.clone(),
            backend,
            disabled: self.disable.clone().unwrap_or_default(),
            memory_bytes: self.memory,
            cache_dir: user_cache_dir(),
            autotune: !self.no_autotune,
        }
    }

    pub fn open(&self, model: Option<PathBuf>) -> OpenOptions {
        OpenOptions {
            model,
            gpu: self.gpu(),
            context: self.context,
            chunk: self.chunk,
            deterministic: self.deterministic,
            cache: self.cache_format(),
            ..OpenOptions::default()
        }
    }

    pub fn cache_format(&self) -> CacheFormat {
        self.cache.unwrap_or_default()
    }

    /// With nothing rounded that need not be, unless asked for: for what is compared with other programs' numbers.
    pub fn exact(&self) -> Self {
        let mut disable = self.disable.clone().unwrap_or_default();
        disable.0.push(Feature::Coop);
        Self { cache: self.cache.or(Some(CacheFormat::F32)), disable: Some(disable), ..self.clone() }
    }
}

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Divides the logits; 0 takes the most likely token [default: what the checkpoint recommends, else 0, or 1 when another sampling flag is given]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    pub temperature: Option<f32>,
    /// Keep the most likely tokens that together reach this share
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = share_above_zero)]
    pub top_p: Option<f32>,
    /// Keep the K most likely tokens; 0 for all
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Keep tokens with at least this part of the best one's share
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = share)]
    pub min_p: Option<f32>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
}

impl SamplingArgs {
    /// The settings over `recommended`; `seed` where none is given.
    pub fn over(&self, recommended: Sampling, seed: impl FnOnce() -> u64) -> Sampling {
        let cuts = self.top_p.is_some() || self.top_k.is_some() || self.min_p.is_some();
        let usual = if recommended.is_greedy() && cuts { 1.0 } else { recommended.temperature };
        Sampling {
            temperature: self.temperature.unwrap_or(usual),
            top_k: self.top_k.unwrap_or(recommended.top_k),
            top_p: self.top_p.unwrap_or(recommended.top_p),
            min_p: self.min_p.unwrap_or(recommended.min_p),
            seed: self.seed.unwrap_or_else(seed),
        }
    }
}

#[derive(Args, Debug, Default)]
pub struct AppArgs {
    /// Directory, .gguf or .safetensors file; absent: the model of the last time
    pub model: Option<PathBuf>,
    /// Keep chats and settings in this folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Args, Debug, Default)]
pub struct ChatArgs {
    /// Directory, .gguf or .safetensors file; absent: the embedded default
    pub model: Option<PathBuf>,
    /// Answer this and end; `-` reads it from standard input
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Instructions before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// The most new tokens of an answer
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// End an answer before this text; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Go on after tokens that end an answer
    #[arg(long)]
    pub ignore_eos: bool,
    /// Ask a model that can do both for reasoning, or for none
    #[arg(long, value_name = "BOOL")]
    pub thinking: Option<bool>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// Directory, .gguf or .safetensors file
    pub model: PathBuf,
    /// Token ids to continue
    #[arg(long, required = true, allow_negative_numbers = true, value_name = "1,2,3", value_delimiter = ',', value_parser = id)]
    pub ids: Vec<u32>,
    /// The most new tokens [default: as many as the context holds]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Go on after tokens that end an answer
    #[arg(long)]
    pub ignore_eos: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

#[derive(Args, Debug)]
pub struct LogitsArgs {
    /// Directory, .gguf or .safetensors file
    pub model: PathBuf,
    /// Token ids to feed
    #[arg(long, required = true, allow_negative_numbers = true, value_name = "1,2,3", value_delimiter = ',', value_parser = id)]
    pub ids: Vec<u32>,
    /// Where to write
    #[arg(short, long, value_name = "FILE.safetensors")]
    pub output: PathBuf,
}

#[derive(Args, Debug)]
pub struct PlanArgs {
    /// Directory, .gguf or .safetensors file; absent: the embedded default
    pub model: Option<PathBuf>,
    /// A prompt's step of N tokens instead of a decoded token's
    #[arg(long, value_name = "N", value_parser = positive)]
    pub prefill: Option<usize>,
    /// Every layer, also those that equal the one before
    #[arg(long)]
    pub full: bool,
}

#[derive(Args, Debug)]
pub struct WgslArgs {
    /// A kernel's name, such as rms_norm
    pub kernel: String,
    /// Which combination of parts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub variant: usize,
    /// List the combinations of parts
    #[arg(long, conflicts_with = "variant")]
    pub list: bool,
    /// As browsers get it
    #[arg(long)]
    pub browser: bool,
}

#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Directory, .gguf or .safetensors file; absent: the embedded default
    pub model: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// GPU time of every kernel's cases
    #[command(after_help = "Example:\n  fathom bench kernels --json > kernels.json")]
    Kernels(BenchKernelsArgs),
    /// Loading, first token, prefill and decode of a model
    #[command(after_help = "\
Examples:
  fathom bench model
  fathom bench model path/to/model --prompt 512 --depth 0,2048,8192 --tokens 64
  fathom bench model --shape v3-slice --weights q4 --json")]
    Model(BenchModelArgs),
}

#[derive(Args, Debug)]
pub struct BenchKernelsArgs {
    /// Also the small cases that tests use
    #[arg(long)]
    pub all: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Timed replays of each case; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    pub runs: usize,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct BenchModelArgs {
    /// Directory, .gguf or .safetensors file; absent: the embedded default
    pub model: Option<PathBuf>,
    /// Random weights of this shape instead of a checkpoint
    #[arg(long, value_name = "NAME", conflicts_with = "model", value_parser = clap::builder::PossibleValuesParser::new(fathom::model::ModelConfig::SHAPES))]
    pub shape: Option<String>,
    /// Format of the random weights
    #[arg(long, requires = "shape", default_value = "q4")]
    pub weights: Weights,
    /// Tokens of the timed prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub prompt: usize,
    /// Tokens already in the cache before the prompt; several are measured one after another
    #[arg(long, value_name = "N,N", default_value = "0", value_delimiter = ',')]
    pub depth: Vec<usize>,
    /// Tokens decoded after the first
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub tokens: usize,
    /// Runs; medians count
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive)]
    pub runs: usize,
    /// For machines
    #[arg(long)]
    pub json: bool,
    /// A file written with --json, to compare with
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum Weights {
    F32,
    Bf16,
    Fp8,
    Q8,
    Q4,
}

fn id(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("expected token ids such as 1,2,3, found {text:?}"))
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| format!("expected a whole number above 0, found {text:?}"))
}

fn number(text: &str, expected: &str, holds: impl Fn(f32) -> bool) -> Result<f32, String> {
    text.parse().ok().filter(|&value| holds(value)).ok_or_else(|| format!("expected {expected}, found {text:?}"))
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, "a number of at least 0", |value| value.is_finite() && value >= 0.0)
}

fn share_above_zero(text: &str) -> Result<f32, String> {
    number(text, "a number above 0 and up to 1", |value| value > 0.0 && value <= 1.0)
}

fn share(text: &str) -> Result<f32, String> {
    number(text, "a number from 0 to 1", |value| (0.0..=1.0).contains(&value))
}

/// `2G`, `512MiB`, `1000000`: units of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected bytes such as 800M or 2G, found {text:?}");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(wrong()),
    };
    text[..digits].parse().ok().and_then(|count: u64| count.checked_mul(unit)).filter(|&bytes| bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("2G"), Ok(2 << 30));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("10kb"), Ok(10 << 10));
        assert_eq!(bytes("77"), Ok(77));
        for wrong in ["", "G", "-1", "1.5G", "2X", "99999999999999999999", "99999999T", "0"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sampling_flags_go_over_what_is_recommended() {
        let recommended = Sampling { temperature: 0.6, top_p: 0.95, ..Sampling::default() };
        let none = SamplingArgs::default();
        assert_eq!(none.over(recommended, || 5), Sampling { seed: 5, ..recommended });
        let greedy = SamplingArgs { temperature: Some(0.0), seed: Some(1), ..SamplingArgs::default() };
        assert_eq!(greedy.over(recommended, || 5), Sampling { temperature: 0.0, seed: 1, ..recommended });
        let top_k = SamplingArgs { top_k: Some(4), ..SamplingArgs::default() };
        assert_eq!(top_k.over(Sampling::default(), || 0), Sampling { temperature: 1.0, top_k: 4, ..Sampling::default() });
    }
}
