//! Reads Rust source as tokens: words, `::` and single signs, each with its line. Comments, texts, characters and
//! lifetimes are left out, and so is everything under `#[cfg(test)]`.

/// A word, `::`, or one other character, and its line in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Returns the tokens of `source`, test code included.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let len = match rest[0] {
            '/' if rest.starts_with(&['/', '/']) => until(rest, '\n'),
            '/' if rest.starts_with(&['/', '*']) => block_comment(rest),
            '"' => quoted(rest),
            '\'' => character_or_lifetime(rest),
            first if first.is_alphanumeric() || first == '_' => {
                let len =
                    rest.iter().take_while(|one| one.is_alphanumeric() || **one == '_').count();
                let raw = raw_text(rest, len);
                if raw == 0 {
                    let text = rest[..len].iter().collect();
                    found.push(Token { text, line });
                }
                len.max(raw)
            }
            first if first.is_whitespace() => 1,
            first => {
                let double = rest.starts_with(&[':', ':']);
                let text = if double { "::".to_owned() } else { first.to_string() };
                found.push(Token { text, line });
                1 + usize::from(double)
            }
        };
        line += rest[..len].iter().filter(|one| **one == '\n').count();
        at += len;
    }
    found
}

fn until(chars: &[char], end: char) -> usize {
    chars.iter().position(|one| *one == end).unwrap_or(chars.len())
}

fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += 1 + usize::from(chars[at] == '\\');
    }
    (at + 1).min(chars.len())
}

fn character_or_lifetime(chars: &[char]) -> usize {
    match chars {
        ['\'', '\\', _, rest @ ..] => 3 + until(rest, '\'') + 1,
        ['\'', _, '\'', ..] => 3,
        _ => 1 + chars[1..].iter().take_while(|one| one.is_alphanumeric() || **one == '_').count(),
    }
}

/// Returns the length of a text that begins with the word of `len` characters (`r"…"`, `br#"…"#`, `b"…"`), or 0.
fn raw_text(chars: &[char], len: usize) -> usize {
    let prefix: String = chars[..len].iter().collect();
    let hashes = chars[len..].iter().take_while(|one| **one == '#').count();
    if chars.get(len + hashes) != Some(&'"') {
        return 0;
    }
    match prefix.as_str() {
        "r" | "br" | "cr" => {}
        "b" | "c" if hashes == 0 => return len + quoted(&chars[len..]),
        _ => return 0,
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = len + hashes + 1;
    let close = chars[body..].windows(end.len()).position(|window| window == end);
    close.map_or(chars.len(), |close| body + close + end.len())
}

/// Returns `tokens` without the items, fields and statements under an attribute `cfg(test)` or `cfg(all(test, …))`.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if starts(rest, "# [ cfg ( test )") || starts(rest, "# [ cfg ( all ( test") {
            at += attributes(rest);
            at += item(&tokens[at..]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Tells whether `tokens` begin with the words and signs of `pattern`, which spaces separate.
pub(crate) fn starts(tokens: &[Token], pattern: &str) -> bool {
    let mut wanted = pattern.split(' ');
    let mut found = tokens.iter();
    wanted.all(|one| found.next().is_some_and(|token| token.text == one))
}

/// Returns the number of tokens that the attributes in front take.
pub(crate) fn attributes(tokens: &[Token]) -> usize {
    let mut at = 0;
    while starts(&tokens[at..], "# [") || starts(&tokens[at..], "# ! [") {
        at += tokens[at..].iter().take_while(|one| one.text != "[").count();
        at += group(&tokens[at..]);
    }
    at
}

/// Returns the number of tokens from the bracket in front to the one that closes it.
pub(crate) fn group(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Returns the number of tokens of the item, field, arm or statement in front.
fn item(tokens: &[Token]) -> usize {
    const ITEMS: &[&str] =
        &["pub", "fn", "struct", "enum", "impl", "mod", "use", "const", "static", "trait"];
    let ends_at_comma = !ITEMS.contains(&tokens.first().map_or("", |token| token.text.as_str()));
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "," if ends_at_comma => return at + 1,
            "{" => return at + group(&tokens[at..]),
            "(" | "[" => at += group(&tokens[at..]),
            "}" | ")" | "]" => return at,
            _ => at += 1,
        }
    }
    at
}

#[test]
fn comments_texts_and_test_code_are_left_out() {
    let source = r##"
        //! use crate::a;
        use crate::b; /* crate::c /* crate::d */ */
        const TEXT: &str = "crate::e \" crate::f"; const RAW: &str = r#"crate::g " "#;
        fn f<'a>(x: &'a str) -> char { '"' }
        #[cfg(test)] #[path = "x.rs"] mod tests;
        #[cfg(test)] fn g<A, B>(a: A) where A: X, B: Y { crate::h() }
        struct S { #[cfg(test)] i: crate::i, j: crate::j }
        #[cfg(not(test))] fn k() {}
    "##;
    let left: Vec<Token> = without_tests(&tokens(source));
    let words: Vec<&str> = left.iter().filter(|one| one.is_word()).map(|one| &*one.text).collect();
    let wanted = "use crate b const TEXT str const RAW str fn f x str char struct S j crate j cfg not test fn k";
    assert_eq!(words.join(" "), wanted);
    assert_eq!(left.iter().find(|one| one.text == "k").map(|one| one.line), Some(9));
}
