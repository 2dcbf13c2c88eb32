//! Chat templates: Jinja as Hugging Face writes it, rendered by minijinja within bounds, since templates come with checkpoints
//! from strangers. Turning the rendered text into ids is `prompt`'s.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, context};

use super::TextError;

/// Longest template accepted; DeepSeek's have about 5 kB.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Longest code of one tag, strings apart.
const MAX_TAG_BYTES: u64 = 1_000;
const MAX_ELIFS: u64 = 100;
/// Longest prompt rendered, in bytes.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// One unit pays for an instruction or 64 bytes of data. R1's template spends about 60 per message.
const FUEL: u64 = 1_000_000;
const FUEL_PER_MESSAGE: u64 = 1_000;
/// Each level takes native stack; threads and browsers may have only 1 MiB of it.
const MAX_RECURSION: usize = 100;
/// Marks the error of `raise_exception` among minijinja's.
const RAISED: &str = "raise_exception: ";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    System,
    User,
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name templates know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

/// The texts of the tokens that templates print; empty where the model has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    pub bos: String,
    pub eos: String,
}

/// What to render beside the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderOptions {
    /// End with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
    /// `thinking` and `enable_thinking` of the template; `None` leaves them undefined, so the template's default holds.
    pub thinking: Option<bool>,
    /// The time for `strftime_now`, in seconds since 1970, UTC. Without it a template that asks for the date fails.
    pub unix_secs: Option<i64>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { add_generation_prompt: true, thinking: None, unix_secs: None }
    }
}

/// A template known to compile, with the tokens it prints.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    tokens: SpecialTokens,
}

impl ChatTemplate {
    /// Checks that `source` compiles.
    ///
    /// # Errors
    /// `TemplateSyntax` with the line, `TemplateLimit` for a template of more than 1 MiB.
    pub fn new(source: &str, tokens: SpecialTokens) -> Result<Self, TextError> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(TextError::TemplateLimit { what: "a source", limit: MAX_SOURCE_BYTES as u64 });
        }
        check_depth(source)?;
        if let Err(error) = environment(None).template_from_str(source) {
            return Err(TextError::TemplateSyntax { line: error.line().unwrap_or(1), detail: detail(&error) });
        }
        Ok(Self::trusted(source, tokens))
    }

    /// For sources known to compile.
    pub(super) fn trusted(source: &str, tokens: SpecialTokens) -> Self {
        Self { source: source.to_owned(), tokens }
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tokens it prints.
    pub fn tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// Whether it asks whether to reason.
    pub fn knows_thinking(&self) -> bool {
        let environment = environment(None);
        let asked = environment.template_from_str(&self.source).map(|template| template.undeclared_variables(false));
        asked.is_ok_and(|asked| asked.contains("thinking") || asked.contains("enable_thinking"))
    }

    /// The prompt for `messages`.
    ///
    /// # Errors
    /// `TemplateRefused` when the template says so, `TemplateLimit` when it does not end or writes too much, else
    /// `TemplateRun` with the line.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, TextError> {
        self.render_contents(messages, &messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>(), options)
    }

    /// As `render`, with other contents than the messages'.
    pub(super) fn render_contents(&self, messages: &[Message], contents: &[&str], options: &RenderOptions) -> Result<String, TextError> {
        let bytes: u64 = contents.iter().map(|content| content.len() as u64).sum();
        let fuel = FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + bytes / 8;
        let turns: Vec<Value> = messages
            .iter()
            .zip(contents)
            .map(|(message, content)| context! { role => message.role.as_str(), content => *content })
            .collect();
        let context = context! {
            messages => turns,
            add_generation_prompt => options.add_generation_prompt,
            bos_token => self.tokens.bos.as_str(),
            eos_token => self.tokens.eos.as_str(),
            tools => (),
            documents => (),
        };
        let context = match options.thinking {
            Some(thinking) => context! { thinking, enable_thinking => thinking, ..context },
            None => context,
        };
        let mut environment = environment(options.unix_secs);
        environment.set_fuel(Some(fuel));
        let mut output = Bounded { bytes: Vec::new(), overflowed: false };
        let result =
            environment.template_from_str(&self.source).and_then(|template| template.render_captured_to(context, &mut output).map(|_| ()));
        if output.overflowed {
            return Err(TextError::TemplateLimit { what: "an output in bytes", limit: MAX_OUTPUT_BYTES as u64 });
        }
        if let Err(error) = result {
            return Err(run_error(&error, fuel));
        }
        String::from_utf8(output.bytes).map_err(|error| TextError::TemplateRun { line: 1, detail: error.to_string() })
    }
}

/// Refuses what would nest the syntax tree deeply: minijinja bounds brackets, but chains of operators and of `elif` build
/// trees that overflow the stack when they are compiled or dropped.
fn check_depth(source: &str) -> Result<(), TextError> {
    let (mut inside, mut quote, mut code_bytes) = (false, None, 0);
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let (byte, next) = (bytes[at], bytes.get(at + 1).copied());
        match (inside, quote) {
            (false, _) => {
                if byte == b'{' && matches!(next, Some(b'{' | b'%')) {
                    (inside, code_bytes) = (true, 0);
                }
            }
            (true, Some(open)) => {
                at += usize::from(byte == b'\\');
                if byte == open {
                    quote = None;
                }
            }
            (true, None) => {
                code_bytes += 1;
                if matches!(byte, b'"' | b'\'') {
                    quote = Some(byte);
                } else if matches!(byte, b'}' | b'%') && next == Some(b'}') {
                    inside = false;
                }
                if code_bytes > MAX_TAG_BYTES {
                    return Err(TextError::TemplateLimit { what: "a tag in bytes", limit: MAX_TAG_BYTES });
                }
            }
        }
        at += 1;
    }
    if source.matches("elif").count() as u64 > MAX_ELIFS {
        return Err(TextError::TemplateLimit { what: "branches", limit: MAX_ELIFS });
    }
    Ok(())
}

/// A writer that refuses to grow past the limit.
struct Bounded {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_OUTPUT_BYTES - self.bytes.len() {
            self.overflowed = true;
            return Err(io::Error::other("the output is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run_error(error: &Error, fuel: u64) -> TextError {
    if error.kind() == ErrorKind::OutOfFuel {
        return TextError::TemplateLimit { what: "work in steps", limit: fuel };
    }
    match error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
        Some(message) => TextError::TemplateRefused(super::shown(message)),
        None => TextError::TemplateRun { line: error.line().unwrap_or(1), detail: detail(error) },
    }
}

/// minijinja's description on one line, without its repetition of the place.
fn detail(error: &Error) -> String {
    let text = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// Jinja as transformers sets it up. No loader: templates cannot read files.
fn environment(unix_secs: Option<i64>) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.unwrap_or_default());
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(|state, value, method, args| {
        // Python's string methods scan their input; minijinja only charges for what they return.
        if let Some(text) = value.as_str() {
            let args = args.iter().map(|arg| arg.as_str().map_or(arg.len().unwrap_or(0), str::len)).sum::<usize>();
            let scans = if method.ends_with("strip") { args.max(1) } else { 1 };
            // Widths of `format` are padding made before it is paid for: four digits are plenty, computed ones are refused.
            let wide = text.as_bytes().windows(5).any(|digits| digits.iter().all(u8::is_ascii_digit));
            if method == "format" && (wide || text.contains(":{")) {
                return Err(Error::new(ErrorKind::InvalidOperation, "format: a width above 9999 or computed"));
            }
            state.consume_fuel((text.len().saturating_mul(scans).saturating_add(args) / 64) as u64)?;
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", move |format: &str| match unix_secs {
        Some(secs) => strftime(secs, format),
        None => Err(Error::new(ErrorKind::InvalidOperation, "strftime_now: no time was given")),
    });
    environment.add_filter("tojson", tojson);
    environment
}

/// As Python's `json.dumps(…, ensure_ascii=False)`: minijinja's own escapes for HTML.
fn tojson(state: &State, value: &Value, args: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = args.get("indent")?;
    let _: Option<bool> = args.get("ensure_ascii")?;
    args.assert_all_used()?;
    if indent.is_some_and(|indent| indent > 16) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent above 16"));
    }
    let mut out = String::new();
    write_json(state, value, indent, 0, &mut out)?;
    Ok(out)
}

fn write_json(state: &State, value: &Value, indent: Option<usize>, depth: usize, out: &mut String) -> Result<(), Error> {
    // Values may share parts, so a small template can mean a huge text: every value is paid for.
    state.consume_fuel(1 + value.as_str().map_or(0, str::len) as u64 / 64)?;
    if depth > 64 {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
    }
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { comma } else { "" });
                line(out, depth + 1);
                out.push_str(&serde_json::Value::from(key.to_string()).to_string());
                out.push_str(": ");
                write_json(state, &value.get_item(&key)?, indent, depth + 1, out)?;
            }
            if value.len() != Some(0) {
                line(out, depth);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { comma } else { "" });
                line(out, depth + 1);
                write_json(state, &item, indent, depth + 1, out)?;
            }
            if value.len() != Some(0) {
                line(out, depth);
            }
            out.push(']');
        }
        _ => out.push_str(&serde_json::Value::from(value.to_string()).to_string()),
    }
    Ok(())
}

/// The directives templates use, in UTC and English.
pub(crate) fn strftime(secs: i64, format: &str) -> Result<String, Error> {
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    const MONTHS: [&str; 12] =
        ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    // Days to a date (Howard Hinnant's algorithm), years beginning in March so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let (weekday, month_name) = (DAYS[days.rem_euclid(7) as usize], MONTHS[(month - 1) as usize]);

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = chars.next();
        }
        let number = |n: i64| if unpadded { n.to_string() } else { format!("{n:02}") };
        out.push_str(&match directive {
            Some('Y') => year.to_string(),
            Some('y') => number(year.rem_euclid(100)),
            Some('m') => number(month),
            Some('d') => number(day),
            Some('H') => number(hour),
            Some('I') => number((hour + 11) % 12 + 1),
            Some('M') => number(minute),
            Some('S') => number(second),
            Some('p') => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                let found = other.map_or_else(String::new, |c| c.to_string());
                return Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now: unsupported directive `%{found}`")));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
#[path = "template_tests.rs"]
pub(super) mod tests;
