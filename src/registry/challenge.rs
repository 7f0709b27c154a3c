//! Parser for the header `WWW-Authenticate` (RFC 9110, 11.6.1).

/// One authentication scheme that a server offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    pub scheme: String,
    values: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter by its name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Reads a header up to the first part that cannot be read.
pub fn challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find(['=', ',', ' ', '\t']).unwrap_or(rest.len());
        let word = &rest[..end];
        let after = rest[end..].trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let Some(challenge) = found.last_mut() else { break };
            let Some((value, after)) = value_of(value.trim_start()) else { break };
            challenge.values.push((word.to_owned(), value));
            rest = after;
        } else {
            if !word.is_empty() {
                found.push(Challenge { scheme: word.to_owned(), values: Vec::new() });
            }
            rest = after;
        }
    }
    found
}

/// Reads a word or a quoted string; returns its value and the rest of the text.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let found = challenges(
            r#"Bearer realm="https://a.test/token?x=1,2",service="reg \"one\"",scope="a:b:pull,push", Basic realm=plain"#,
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].value("realm"), Some("https://a.test/token?x=1,2"));
        assert_eq!(found[0].value("SERVICE"), Some("reg \"one\""));
        assert_eq!((found[1].scheme.as_str(), found[1].value("realm")), ("Basic", Some("plain")));
        assert_eq!(challenges("Negotiate, Basic realm=\"x\"").len(), 2);
    }

    #[test]
    fn nonsense_is_no_harm() {
        for text in ["", ",", "=", "\"", "Bearer realm=\"", "a=b", "Bearer =,=,", "Bearer realm=\"\\"] {
            challenges(text);
        }
    }
}
