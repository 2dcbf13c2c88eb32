//! The chat formats of the DeepSeek generations, for checkpoints that bring no template, and the choice among them.
//! The templates themselves are in `assets/templates`.

use super::template::{ChatTemplate, SpecialTokens};
use super::tokenizer::Tokenizer;

/// A chat format known without a template file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// V2, V2-Lite, Coder-V2: `User: ` and `Assistant: ` as text.
    V2,
    /// V2.5: the shape of V3.
    V25,
    /// V3 and V3-0324.
    V3,
    /// R1: answers begin inside `<think>`.
    R1,
    /// V3.1, and plain chat of V3.2: thinking on request.
    V31,
    /// `<|im_start|>role`, not DeepSeek's.
    ChatMl,
}

impl Generation {
    pub const ALL: [Self; 6] = [Self::V2, Self::V25, Self::V3, Self::R1, Self::V31, Self::ChatMl];

    /// The text of the template.
    pub fn source(self) -> &'static str {
        match self {
            Self::V2 => include_str!("../../assets/templates/deepseek-v2.jinja"),
            Self::V25 | Self::V3 => include_str!("../../assets/templates/deepseek-v3.jinja"),
            Self::R1 => include_str!("../../assets/templates/deepseek-r1.jinja"),
            Self::V31 => include_str!("../../assets/templates/deepseek-v3.1.jinja"),
            Self::ChatMl => include_str!("../../assets/templates/chatml.jinja"),
        }
    }

    /// Whether its models write their reasoning between `<think>` and `</think>`.
    pub fn reasons(self) -> bool {
        matches!(self, Self::R1 | Self::V31)
    }
}

impl ChatTemplate {
    /// The format of a generation.
    pub fn builtin(generation: Generation, tokens: SpecialTokens) -> Self {
        Self::trusted(generation.source(), tokens)
    }

    /// The format that fits a checkpoint without a template, or `None` when its tokens suit none.
    ///
    /// `name` is what the checkpoint is called (folder, `general.name`, `model_type`): V3 and R1 share a tokenizer and only
    /// the name tells them apart.
    pub fn pick_builtin(tokenizer: &Tokenizer, name: &str) -> Option<Generation> {
        let has = |token: &str| tokenizer.token_id(token).is_some();
        let name = name.to_ascii_lowercase();
        if has("<｜User｜>") {
            return Some(if has("<｜search▁begin｜>") || has("｜DSML｜") {
                Generation::V31
            } else if !has("<think>") {
                Generation::V25
            } else if name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "r1") {
                Generation::R1
            } else {
                Generation::V3
            });
        }
        if has("<|im_start|>") && has("<|im_end|>") {
            return Some(Generation::ChatMl);
        }
        has("<｜begin▁of▁sentence｜>").then_some(Generation::V2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::GgufVocab;
    use super::super::template::tests::{render, user_turns};
    use super::*;

    const Z: &str = "<｜end▁of▁sentence｜>";

    fn tokens() -> SpecialTokens {
        SpecialTokens { bos: "<｜begin▁of▁sentence｜>".into(), eos: Z.into() }
    }

    fn check(generation: Generation, turns: &[(&str, &str)], thinking: Option<bool>, expected: &str) {
        let template = ChatTemplate::builtin(generation, tokens());
        let text = render(&template, turns, thinking);
        assert_eq!(text, format!("<｜begin▁of▁sentence｜>{expected}"), "{generation:?}");
    }

    #[test]
    fn every_generation_writes_its_exact_format() {
        let turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "<think>a</think>b</think>Hello!"), ("user", "1+1=?")];
        check(
            Generation::V2,
            &[turns[0], turns[1], ("assistant", "Hello!"), turns[3]],
            None,
            "Be kind.\n\nUser: Hi\n\nAssistant: Hello!<｜end▁of▁sentence｜>User: 1+1=?\n\nAssistant:",
        );
        for generation in [Generation::V25, Generation::V3] {
            check(
                generation,
                &[turns[0], turns[1], ("assistant", "Hello!"), turns[3]],
                None,
                "Be kind.<｜User｜>Hi<｜Assistant｜>Hello!<｜end▁of▁sentence｜><｜User｜>1+1=?<｜Assistant｜>",
            );
        }
        check(
            Generation::R1,
            &turns,
            None,
            "Be kind.<｜User｜>Hi<｜Assistant｜>Hello!<｜end▁of▁sentence｜><｜User｜>1+1=?<｜Assistant｜><think>\n",
        );
        let before = "Be kind.<｜User｜>Hi<｜Assistant｜></think>b</think>Hello!<｜end▁of▁sentence｜><｜User｜>1+1=?<｜Assistant｜>";
        check(Generation::V31, &turns, None, &format!("{before}</think>"));
        check(Generation::V31, &turns, Some(false), &format!("{before}</think>"));
        check(Generation::V31, &turns, Some(true), &format!("{before}<think>"));
        check(
            Generation::V31,
            &[("user", "hello"), ("assistant", "Hello!"), ("user", "1+1=?")],
            Some(true),
            "<｜User｜>hello<｜Assistant｜></think>Hello!<｜end▁of▁sentence｜><｜User｜>1+1=?<｜Assistant｜><think>",
        );
    }

    #[test]
    fn systems_are_hoisted_and_white_space_is_kept() {
        for generation in [Generation::V3, Generation::R1, Generation::V31] {
            let turns = [("user", " a\n"), ("system", "one"), ("system", "two")];
            let text = render(&ChatTemplate::builtin(generation, tokens()), &turns, None);
            assert!(text.starts_with("<｜begin▁of▁sentence｜>one\n\ntwo<｜User｜> a\n<｜Assistant｜>"), "{text}");
        }
    }

    #[test]
    fn tool_results_are_framed() {
        let turns = [("user", "u"), ("assistant", "c"), ("tool", "r1"), ("tool", "r2")];
        let outputs = |between: &str| {
            format!(
                "<｜User｜>u<｜Assistant｜>c{Z}<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>r1<｜tool▁output▁end｜>{between}\
                 <｜tool▁output▁begin｜>r2<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
            )
        };
        check(Generation::V3, &turns, None, &outputs(""));
        check(Generation::R1, &turns, None, &outputs("\n"));
        let turns = [turns[0], turns[1], turns[2], turns[3], ("assistant", "so")];
        check(Generation::R1, &turns, None, &format!("{}so{Z}<｜Assistant｜><think>\n", outputs("\n")));
        let error = ChatTemplate::builtin(Generation::V2, tokens()).render(&user_turns(&[("tool", "x")]), &Default::default());
        assert!(error.unwrap_err().to_string().contains("no role tool"));
    }

    #[test]
    fn the_vocabulary_chooses() {
        let pick = |special: &[&str], name: &str| {
            let tokens: Vec<String> = special.iter().map(|token| (*token).to_owned()).collect();
            let types = vec![3; tokens.len()];
            let vocab = GgufVocab { model: "gpt2".into(), pre: "deepseek-v3".into(), tokens, types, ..GgufVocab::default() };
            ChatTemplate::pick_builtin(&Tokenizer::from_gguf(vocab, 100).unwrap(), name)
        };
        let begin = "<｜begin▁of▁sentence｜>";
        assert_eq!(pick(&[begin], ""), Some(Generation::V2));
        assert_eq!(pick(&[begin, "<｜User｜>"], ""), Some(Generation::V25));
        assert_eq!(pick(&[begin, "<｜User｜>", "<think>"], "DeepSeek-V3-0324"), Some(Generation::V3));
        assert_eq!(pick(&[begin, "<｜User｜>", "<think>"], "DeepSeek-R1-0528"), Some(Generation::R1));
        assert_eq!(pick(&[begin, "<｜User｜>", "<think>", "<｜search▁begin｜>"], "x"), Some(Generation::V31));
        assert_eq!(pick(&["<|im_start|>", "<|im_end|>"], "smollm"), Some(Generation::ChatMl));
        assert_eq!(pick(&["<s>"], "deepseek-r1"), None);
    }
}
