//! Texts that go with a question.

use std::path::Path;

use crate::app::chat::Attachment;

/// A text longer than this is no attachment: no context holds it.
pub const ATTACHMENT_BYTES: u64 = 4 << 20;
/// An import longer than this is no chat.
pub const IMPORT_BYTES: u64 = 256 << 20;

/// A file's bytes as an attachment of its name.
///
/// # Errors
/// Bytes that are no text, in one line.
pub fn attachment_of(path: &Path, bytes: Vec<u8>) -> Result<Attachment, String> {
    let text = text(bytes).ok_or_else(|| format!("{}: expected text in UTF-8 or UTF-16, found other bytes", path.display()))?;
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok(Attachment { name, text })
}

/// Text of a file: UTF-8, or UTF-16 that says so at its beginning.
fn text(bytes: Vec<u8>) -> Option<String> {
    let units = |from: fn([u8; 2]) -> u16| bytes[2..].as_chunks::<2>().0.iter().map(|&pair| from(pair)).collect::<Vec<u16>>();
    let text = match bytes.as_slice() {
        [0xFF, 0xFE, ..] => String::from_utf16(&units(u16::from_le_bytes)).ok()?,
        [0xFE, 0xFF, ..] => String::from_utf16(&units(u16::from_be_bytes)).ok()?,
        _ => String::from_utf8(bytes).ok()?,
    };
    let text = text.strip_prefix('\u{FEFF}').map(str::to_string).unwrap_or(text);
    (!text.contains('\0')).then_some(text)
}
