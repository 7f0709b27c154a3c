//! Reads an `env-file` by Compose's rules (compose-go, `dotenv`), with two exceptions that keep a file the same everywhere:
//! `$` stands for itself, as in Docker's files, and a name without a value is an error, because its value would be the caller's.

use std::collections::BTreeMap;

/// What is wrong with a file, and in which line, counted from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    pub line: usize,
    pub why: String,
}

/// The variables of a file. Of two lines with the same name the later one counts.
///
/// # Errors
/// Tells the first line that is not understood; of a value that has no end, the line where it begins.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let mut found = BTreeMap::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut number, mut counted) = (1, rest);
    while !rest.is_empty() {
        number += counted[..counted.len() - rest.len()].matches('\n').count();
        counted = rest;
        let wrong = |why: String| Wrong { line: number, why };
        let line = rest.lines().next().unwrap_or_default();
        let begun = line.trim_start();
        if begun.is_empty() || begun.starts_with('#') {
            rest = after_line(rest);
            continue;
        }
        let begun = match begun.strip_prefix("export") {
            Some(after) if after.starts_with([' ', '\t']) => after.trim_start(),
            _ => begun,
        };
        let Some((name, value)) = begun.split_once('=') else {
            let why = if begun.chars().all(is_of_name) {
                format!("{begun:?} has no value: write {begun}=VALUE")
            } else {
                "this is not a NAME=value line".to_owned()
            };
            return Err(wrong(why));
        };
        let name = name.trim_end();
        match name.chars().find(|letter| !is_of_name(*letter)) {
            _ if name.is_empty() => return Err(wrong("there is no name in front of the `=`".into())),
            Some(letter) => return Err(wrong(format!("the name {name:?} has {letter:?} in it"))),
            None => {}
        }
        let value = value.trim_start();
        let at = &rest[line.len() - value.len()..];
        let value = match value.chars().next().filter(|first| ['"', '\''].contains(first)) {
            None => {
                rest = after_line(rest);
                without_comment(value).to_owned()
            }
            Some(quote) => {
                let (value, left) = quoted(at, quote).ok_or_else(|| wrong(format!("the {quote} has no counterpart")))?;
                let behind = left.lines().next().unwrap_or_default().trim();
                if !behind.is_empty() && !behind.starts_with('#') {
                    return Err(wrong(format!("{behind:?} stands behind the closing {quote}")));
                }
                rest = after_line(left);
                value
            }
        };
        if value.contains('\0') {
            return Err(wrong("a value cannot have a NUL byte".into()));
        }
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_.-[]".contains(letter)
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// A plain value: a `#` behind white space begins a comment.
fn without_comment(value: &str) -> &str {
    let comment = value
        .char_indices()
        .find(|(at, letter)| *letter == '#' && value[..*at].chars().next_back().is_none_or(char::is_whitespace));
    value[..comment.map_or(value.len(), |(at, _)| at)].trim_end()
}

/// The value in quotes with which a text begins, which may have several lines, and what follows it. Between `"`, a backslash
/// stands in front of `n`, `r`, `t`, `"`, `\`, `$`; elsewhere it stands for itself.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        match letter {
            letter if letter == quote => return Some((value, &text[at + 1..])),
            '\\' if quote == '"' && next.is_some_and(|next| "nrt\"\\$".contains(next)) => {
                letters.next();
                value.extend(next.map(|next| match next {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                }));
            }
            '\r' if next == Some('\n') => {}
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_compose_reads_them() {
        for (text, wanted) in [
            ("\u{feff}FOO=bar", &[("FOO", "bar")][..]),
            ("export\tA=1\nexport B = 2 \nexport=3", &[("A", "1"), ("B", "2"), ("export", "3")]),
            ("KEY='line1\nline2=x'\nB=1", &[("KEY", "line1\nline2=x"), ("B", "1")]),
            (
                "PEM=\"-----BEGIN KEY-----\r\nMIIB==\r\n-----END KEY-----\"\r\nB=1\r\n",
                &[("PEM", "-----BEGIN KEY-----\nMIIB==\n-----END KEY-----"), ("B", "1")],
            ),
            ("B=\"x # y\" # z", &[("B", "x # y")]),
            ("A=x # y\nB=x#y\nC=#\nD=", &[("A", "x"), ("B", "x#y"), ("C", ""), ("D", "")]),
            ("# no\n\n  # no\n  A=1", &[("A", "1")]),
            (r#"A="a\nb\"c\\d\$e\xf" "#, &[("A", "a\nb\"c\\d$e\\xf")]),
            (r"A='a\nb$c'", &[("A", r"a\nb$c")]),
            ("A=pa$$word ${B}", &[("A", "pa$$word ${B}")]),
            ("A=it's \"so\"", &[("A", "it's \"so\"")]),
            ("a.b-c[0]=1\nA=1\nA=2", &[("a.b-c[0]", "1"), ("A", "2")]),
            ("", &[]),
        ] {
            let found = parse(text).unwrap();
            let wanted: BTreeMap<String, String> = wanted.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            assert_eq!(found, wanted, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        for (text, line, why) in [
            ("A=1\nB=\"unterminated\nC=2\n", 2, "the \" has no counterpart"),
            ("A='", 1, "the ' has no counterpart"),
            ("=value", 1, "there is no name"),
            ("A=1\n\nFOO BAR=1", 3, "\"FOO BAR\" has ' '"),
            ("caf\u{e9}=1", 1, "has 'é'"),
            ("A", 1, "write A=VALUE"),
            ("A='1' 2", 1, "\"2\" stands behind"),
            ("A='\n'\nfoo bar", 3, "not a NAME=value line"),
            ("A=-----BEGIN KEY-----\nMIIB+/==", 2, "has '+'"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.line == line && found.why.contains(why), "{text:?}: {found:?}");
        }
    }
}
