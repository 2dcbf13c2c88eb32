//! Reading a JSON object's fields, each error naming the field, what was expected and what was found.

use super::ModelError;
use serde_json::{Map, Value};

pub(super) struct Fields<'a> {
    /// What precedes a field's name in messages.
    prefix: String,
    map: &'a Map<String, Value>,
}

/// A value as messages show it.
fn show(value: Option<&Value>) -> String {
    match value {
        None => "nothing".into(),
        Some(value) => value.to_string().chars().take(80).collect(),
    }
}

impl<'a> Fields<'a> {
    pub fn top(value: &'a Value) -> Result<Self, ModelError> {
        Self::new(String::new(), "config.json", value)
    }

    pub fn within(name: &str, value: &'a Value) -> Result<Self, ModelError> {
        Self::new(format!("{name}."), name, value)
    }

    fn new(prefix: String, name: &str, value: &'a Value) -> Result<Self, ModelError> {
        let wrong = || ModelError::Config { field: name.into(), expected: "an object".into(), found: show(Some(value)) };
        Ok(Self { prefix, map: value.as_object().ok_or_else(wrong)? })
    }

    pub fn wrong(&self, name: &str, expected: &str, found: String) -> ModelError {
        ModelError::Config { field: format!("{}{name}", self.prefix), expected: expected.into(), found }
    }

    pub fn unsupported(&self, name: &str, hint: &str) -> ModelError {
        ModelError::Unsupported { field: format!("{}{name}", self.prefix), found: show(self.get(name)), hint: hint.into() }
    }

    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    /// The field, unless absent or null.
    fn some(&self, name: &str) -> Option<&'a Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    pub fn is_null(&self, name: &str) -> bool {
        self.get(name).is_some_and(Value::is_null)
    }

    /// A number, finite.
    pub fn number(&self, name: &str) -> Result<Option<f64>, ModelError> {
        let parse = |value: &Value| value.as_f64().filter(|v| v.is_finite()).ok_or_else(|| self.wrong(name, "a number", show(Some(value))));
        self.some(name).map(parse).transpose()
    }

    /// A number above zero.
    pub fn positive(&self, name: &str) -> Result<Option<f64>, ModelError> {
        match self.number(name)? {
            Some(value) if value <= 0.0 => Err(self.wrong(name, "a number above 0", value.to_string())),
            other => Ok(other),
        }
    }

    /// A whole number within bounds; `40.0` counts as 40.
    pub fn count(&self, name: &str, least: usize, most: usize) -> Result<Option<usize>, ModelError> {
        let expected = format!("a whole number from {least} to {most}");
        let parse = |value: &Value| {
            let number = value.as_f64().filter(|v| v.fract() == 0.0 && *v >= least as f64 && *v <= most as f64);
            number.map(|v| v as usize).ok_or_else(|| self.wrong(name, &expected, show(Some(value))))
        };
        self.some(name).map(parse).transpose()
    }

    pub fn required(&self, name: &str, least: usize, most: usize) -> Result<usize, ModelError> {
        let missing = || self.wrong(name, &format!("a whole number from {least} to {most}"), show(self.get(name)));
        self.count(name, least, most)?.ok_or_else(missing)
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, ModelError> {
        let parse = |value: &Value| value.as_bool().ok_or_else(|| self.wrong(name, "true or false", show(Some(value))));
        self.some(name).map(parse).transpose()
    }

    pub fn string(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        let parse = |value: &'a Value| value.as_str().ok_or_else(|| self.wrong(name, "a string", show(Some(value))));
        self.some(name).map(parse).transpose()
    }

    /// One token id or a list of them.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        let id = |value: &Value| {
            value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| self.wrong(name, "token ids", show(Some(value))))
        };
        match self.some(name) {
            None => Ok(vec![]),
            Some(Value::Array(list)) => list.iter().map(id).collect(),
            Some(value) => Ok(vec![id(value)?]),
        }
    }
}
