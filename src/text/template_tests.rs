use super::*;
use std::time::{Duration, Instant};

pub(in crate::text) const SMOLLM: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

pub(in crate::text) fn user_turns(turns: &[(&str, &str)]) -> Vec<Message> {
    let roles = [Role::System, Role::User, Role::Assistant, Role::Tool];
    let role = |name: &str| roles.into_iter().find(|role| role.as_str() == name).unwrap();
    turns.iter().map(|(name, content)| Message { role: role(name), content: (*content).to_owned() }).collect()
}

pub(in crate::text) fn render(template: &ChatTemplate, turns: &[(&str, &str)], thinking: Option<bool>) -> String {
    template.render(&user_turns(turns), &RenderOptions { thinking, ..RenderOptions::default() }).unwrap()
}

fn run(source: &str) -> Result<String, TextError> {
    let tokens = SpecialTokens { bos: "<s>".into(), eos: "</s>".into() };
    let options = RenderOptions { unix_secs: Some(1_709_210_096), ..RenderOptions::default() };
    ChatTemplate::new(source, tokens)?.render(&user_turns(&[("user", "Hi <b> 'x' & é")]), &options)
}

#[test]
fn smollm_writes_chatml_with_its_system_prompt() {
    let template = ChatTemplate::new(SMOLLM, SpecialTokens::default()).unwrap();
    assert_eq!(
        render(&template, &[("user", "Hi")], None),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    let options = RenderOptions { add_generation_prompt: false, ..RenderOptions::default() };
    let text = template.render(&user_turns(&[("system", "s"), ("user", "Hi")]), &options).unwrap();
    assert_eq!(text, "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
}

#[test]
fn the_language_is_transformers_jinja() {
    let expect = |source: &str, expected: &str| assert_eq!(run(source).unwrap(), expected, "{source}");
    expect("{{ bos_token }}{{ eos_token }}", "<s></s>");
    expect("{% if true %}\n  {% set x = 1 %}\na\n{% endif %}\n", "a\n");
    expect("{{ 'a</think>b</think> c '.split('</think>')[-1].strip() }}", "c");
    expect("{{ 'a|b|c'.split('|', 1)[1] }}{{ 'ab'.startswith('a') }}{{ ' x'.lstrip() }}", "b|cTruex");
    expect("{{ 'abc'[::-1] }}{{ 'abc'[:-1] }}{{ messages[::-1][0].role }}", "cbaabuser");
    expect("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "Hi <b> 'x' & é"}"#);
    expect("{{ [1, none, true, 'a\"'] | tojson }}{{ {} | tojson(indent=2) }}", r#"[1, null, true, "a\""]{}"#);
    expect("{{ {'a': [1, 2.5]} | tojson(indent=2) }}", "{\n  \"a\": [\n    1,\n    2.5\n  ]\n}");
    expect(
        "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
        "3",
    );
    expect("{{ thinking is defined }}{{ tools is none }}{% if tools %}x{% endif %}{{ nothing }}", "FalseTrue");
    expect("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(1) }}{{ messages | length }}{{ 'x' | upper }}", "[1]1X");
    expect(
        "{{ strftime_now('%Y-%m-%d %-d %b %B %a %A %H:%M:%S %I %p %y %%') }}",
        "2024-02-29 29 Feb February Thu Thursday 12:34:56 12 PM 24 %",
    );
    assert!(strftime(-1, "%Y-%m-%d %A").unwrap() == "1969-12-31 Wednesday" && strftime(0, "%Q").is_err());
}

#[test]
fn errors_are_one_line_and_name_the_place() {
    let syntax = run("a\n{% if %}").unwrap_err();
    assert!(matches!(syntax, TextError::TemplateSyntax { line: 2, .. }), "{syntax}");
    let refused = run("{{ raise_exception('roles must\nalternate') }}").unwrap_err();
    assert_eq!(refused.to_string(), "the chat template refused the messages: roles must\\nalternate");
    let undefined = run("\n\n{{ message.content.text }}").unwrap_err();
    assert!(matches!(undefined, TextError::TemplateRun { line: 3, .. }), "{undefined}");
    for source in [
        "{% include '/etc/passwd' %}",
        "{% extends 'x' %}",
        "{{ ''.__class__ .mro() }}",
        "{{ unknown_function() }}",
        "{{ 1 / 0 }}",
        "{{ strftime_now('%Q') }}",
        "{{ 'x'.nosuch() }}",
        "{{ messages[0] + 1 }}",
    ] {
        let error = run(source).unwrap_err().to_string();
        assert!(!error.contains('\n') && error.starts_with("chat template"), "{error}");
    }
    let error = ChatTemplate::new("{{ strftime_now('%Y') }}", SpecialTokens::default()).unwrap().render(&[], &RenderOptions::default());
    assert!(error.unwrap_err().to_string().contains("no time was given"));
}

#[test]
fn hostile_templates_end_soon_with_an_error() {
    let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let sources = [
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}".to_owned(),
        "{% for i in range(1000000000) %}x{% endfor %}".to_owned(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% macro m(x) %}{{ m(x + 'a') }}{{ m(x + 'b') }}{% endmacro %}{{ m('') }}".to_owned(),
        "{% for x in [[1]] recursive %}{{ loop([[x]]) }}{% endfor %}".to_owned(),
        "{{ 'x' * 10000000000 }}".to_owned(),
        "{{ [1] * 10000000000 }}".to_owned(),
        "{% set ns = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}".to_owned(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}".to_owned(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}".to_owned(),
        "{% set ns = namespace(s=[1]) %}{% for i in range(90) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s | tojson }}".to_owned(),
        "{% set s = 'a' * 1000000 %}{{ s.replace('a', s) }}".to_owned(),
        "{% set s = 'a' * 40000000 %}{% for i in range(100000) %}{% if s.count('b') %}x{% endif %}{% endfor %}".to_owned(),
        "{% set s = 'a' * 10000000 %}{{ s.strip('b' * 10000000 + 'a') }}".to_owned(),
        "{{ s.join(range(99999)) }}{% set s = 'a' * 1000000 %}{{ s.join(range(99999)) }}".to_owned(),
        "{{ '%0999999999d' | format(1) }}".to_owned(),
        "{{ '{:>9999999999}'.format('x') }}".to_owned(),
        "{{ '{:{}}'.format('x', 9999999999) }}".to_owned(),
        "{{ '%*d' | format(999999999, 1) }}".to_owned(),
        "{{ 'a\n\nb' | indent(10000000000) }}".to_owned(),
        "{{ 'a' | center(10000000000) }}".to_owned(),
        "{{ [1] | tojson(indent=100000000) }}".to_owned(),
        format!("{{{{ {} }}}}", nested("(", ")", 100_000)),
        format!("{{{{ {} }}}}", nested("[", "]", 100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(100_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(100_000)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(50_000)),
        "{% if 1 %}".repeat(100_000),
        "x".repeat(MAX_SOURCE_BYTES + 1),
    ];
    for source in sources {
        let start = Instant::now();
        let result = run(&source);
        let shown: String = source.chars().skip(source.chars().count().saturating_sub(90)).collect();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} for {shown}", start.elapsed());
        match result {
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            Ok(text) => panic!("{} bytes from {shown}", text.len()),
        }
    }
}

#[test]
fn a_long_conversation_has_fuel() {
    let turns: Vec<Message> =
        (0..5_000).map(|i| Message { role: if i % 2 == 0 { Role::User } else { Role::Assistant }, content: "word ".repeat(200) }).collect();
    for generation in crate::text::Generation::ALL {
        let text = ChatTemplate::builtin(generation, SpecialTokens::default()).render(&turns, &RenderOptions::default()).unwrap();
        assert!(text.len() > 5_000_000);
    }
}
