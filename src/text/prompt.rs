//! From messages to prompt ids, so that only the template's own special strings become special tokens; and the fields of
//! `tokenizer_config.json` that concern templates.

use serde_json::Value;

use super::template::{ChatTemplate, Message, RenderOptions, Role, SpecialTokens};
use super::tokenizer::Tokenizer;
use super::{TextError, shown};

/// Tags that templates look for in past answers.
const REASONING_TAGS: [&str; 2] = ["<think>", "</think>"];

impl ChatTemplate {
    /// Prompt ids of `messages`. What looks like a special token inside a message stays text, except reasoning tags in the
    /// assistant's own turns, which templates take out.
    ///
    /// Special strings in contents are broken by a character that occurs nowhere else, the template is rendered, special
    /// tokens are found, and only then the character is removed. Should a template treat contents so that this changes
    /// its text, the plain rendering is encoded instead.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`] and [`Tokenizer::encode`].
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message], options: &RenderOptions) -> Result<Vec<u32>, TextError> {
        let plain = self.render(messages, options)?;
        let Some(marker) = unused_char(&plain, messages) else {
            return tokenizer.encode(&plain);
        };
        for spares_tags_everywhere in [false, true] {
            let contents: Vec<String> = messages
                .iter()
                .map(|message| {
                    let spares = spares_tags_everywhere || message.role == Role::Assistant;
                    broken(tokenizer, &message.content, marker, spares)
                })
                .collect();
            let unchanged = contents.iter().zip(messages).all(|(content, message)| *content == message.content);
            if unchanged {
                break;
            }
            let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
            match self.render_contents(messages, &contents, options) {
                Ok(marked) if marked.replace(marker, "") == plain => return tokenizer.encode_around(&marked, Some(marker)),
                _ => {}
            }
        }
        tokenizer.encode(&plain)
    }
}

/// A private-use character in neither the prompt nor the messages.
fn unused_char(prompt: &str, messages: &[Message]) -> Option<char> {
    ('\u{F0000}'..='\u{F00FF}').find(|&c| !prompt.contains(c) && messages.iter().all(|message| !message.content.contains(c)))
}

/// `content` with `marker` inside every added token written in it, and at its ends where the template could complete one.
fn broken(tokenizer: &Tokenizer, content: &str, marker: char, spares_tags: bool) -> String {
    let mut out = String::with_capacity(content.len());
    let inner = content.trim();
    let lead = content.len() - content.trim_start().len();
    // White space stays outermost, so that templates can still strip it.
    let ends = |token: &str, with_start: bool| {
        token.char_indices().skip(1).any(|(at, _)| {
            let (head, tail) = token.split_at(at);
            if with_start { inner.starts_with(tail) } else { inner.ends_with(head) }
        })
    };
    let guards = |with_start: bool| !inner.is_empty() && tokenizer.added().any(|token| ends(token, with_start));
    let (before, after) = (guards(true), guards(false));
    for (at, c) in content.char_indices() {
        if at == lead && before {
            out.push(marker);
        }
        out.push(c);
        let breaks = |token: &str| !(spares_tags && REASONING_TAGS.contains(&token));
        if tokenizer.added_at(&content[at..]).any(breaks) {
            // A token of one character cannot be broken from within: it is matched whatever stands beside it.
            out.push(marker);
        }
        if at + c.len_utf8() == lead + inner.len() && after {
            out.push(marker);
        }
    }
    out
}

/// The template of a `tokenizer_config.json`: `chat_template` as text, or the one named `default` (else the first) of a list.
///
/// # Errors
/// Names the field that is neither.
pub fn template_from_tokenizer_config(json: &Value) -> Result<Option<String>, TextError> {
    let wrong = |expected: &str, found: &Value| {
        TextError::field("tokenizer_config.json chat_template", expected, format!("`{}`", shown(&found.to_string())))
    };
    match &json["chat_template"] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(items) => {
            let named = items.iter().find(|item| item["name"] == "default").or_else(|| items.first());
            let Some(item) = named else { return Ok(None) };
            let text = item["template"].as_str().ok_or_else(|| wrong("a `template` text in each entry", item))?;
            Ok(Some(text.to_owned()))
        }
        other => Err(wrong("text or a list", other)),
    }
}

/// `bos_token` and `eos_token` of a `tokenizer_config.json`, each text, an object with `content`, or absent (empty).
///
/// # Errors
/// Names the field that is none of these.
pub fn special_tokens_from_tokenizer_config(json: &Value) -> Result<SpecialTokens, TextError> {
    let token = |name: &str| match &json[name] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => other["content"].as_str().map(str::to_owned).ok_or_else(|| {
            let found = format!("`{}`", shown(&other.to_string()));
            TextError::field(format!("tokenizer_config.json {name}"), "text or an object with `content`", found)
        }),
    };
    Ok(SpecialTokens { bos: token("bos_token")?, eos: token("eos_token")? })
}

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
