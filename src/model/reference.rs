//! Names of images in registries, as Docker users write them.

use super::Digest;
use super::name::shown_letter;
use std::fmt;

/// The registry that Docker uses when a name has none.
pub const DOCKER_HUB: &str = "docker.io";

/// An image in a registry (the reference grammar of the `distribution` project).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Reference {
    /// The host, with its port if there is one.
    pub host: String,
    /// The repository there, such as `library/redis`.
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses a name; `host` is the registry of names that have none.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the name, and what may have been meant.
    pub fn parse(text: &str, host: &str) -> Result<Self, String> {
        Self::strictly(text, host).map_err(|why| match mended(text).filter(|meant| Self::strictly(meant, host).is_ok()) {
            Some(meant) => format!("{why}; perhaps \"{meant}\""),
            None => why,
        })
    }

    fn strictly(text: &str, host: &str) -> Result<Self, String> {
        if let Some(rest) = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            return Err(format!("\"{text}\" is a URL; a name of an image has no scheme: \"{rest}\""));
        }
        if let Some(blank) = text.chars().find(|letter| letter.is_whitespace() || letter.is_control()) {
            let shown = text.escape_debug();
            return Err(format!("\"{shown}\" is not an image name: it has {}", shown_letter(blank)));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Self::digest(digest)?)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            // A colon before a slash begins a port, not a tag.
            Some((name, tag)) if !tag.contains('/') => (name, Some(Self::tag(tag)?)),
            _ => (name, None),
        };
        let (host, repository) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (host, name),
        };
        let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { DOCKER_HUB } else { host };
        let repository =
            if host == DOCKER_HUB && !repository.contains('/') { format!("library/{repository}") } else { repository.to_owned() };
        check_host(host)?;
        check_repository(&repository, text)?;
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }

    fn tag(text: &str) -> Result<String, String> {
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if first && rest && text.len() <= 128 {
            return Ok(text.to_owned());
        }
        Err(format!("\"{text}\" is not a tag: at most 128 letters, digits, `_`, `.` and `-`, and not `.` or `-` first"))
    }

    fn digest(text: &str) -> Result<Digest, String> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
        hex.and_then(Digest::parse)
            .ok_or_else(|| format!("\"{text}\" is not a supported digest: `sha256:` and 64 hexadecimal digits"))
    }

    /// What to request from the registry: the digest, else the tag, else `latest`.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
        }
    }

    /// The host and the repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }
}

impl fmt::Display for Reference {
    /// Writes the whole name, including the default tag `latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match (&self.tag, &self.digest) {
            (Some(tag), _) => write!(f, ":{tag}")?,
            (None, None) => f.write_str(":latest")?,
            _ => {}
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// What begins a name that was copied from elsewhere.
const SCHEMES: [&str; 3] = ["https://", "http://", "docker://"];

/// What may have been meant by a text that is no name.
fn mended(text: &str) -> Option<String> {
    let text = text.trim();
    if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
        return None;
    }
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    // What is not legal in a part of a name comes to one hyphen.
    let legal = |text: &str, keeps: &dyn Fn(char) -> bool| -> String {
        let words = text.split(|letter| !keeps(letter)).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-")
    };
    let lower = name.to_lowercase();
    let (host, rest) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) && check_host(first).is_ok() && !rest.is_empty() => {
            (Some(first), rest.to_lowercase())
        }
        Some((first, _)) if is_host(first) && !first.contains(char::is_whitespace) => return None,
        _ => (None, lower),
    };
    let part = |part: &str| {
        let whole = legal(part, &|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._-".contains(letter));
        whole.trim_matches(['.', '_', '-']).to_owned()
    };
    let parts = host.map(str::to_owned).into_iter().chain(rest.split('/').map(part).filter(|part| !part.is_empty()));
    let mut meant = parts.collect::<Vec<_>>().join("/");
    let tag = tag.map(|tag| legal(tag, &|letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter)));
    if let Some(tag) = tag.as_deref().map(|tag| tag.trim_start_matches(['.', '-'])).filter(|tag| !tag.is_empty()) {
        meant = format!("{meant}:{tag}");
    }
    digest.into_iter().for_each(|digest| meant = format!("{meant}@{digest}"));
    Some(meant)
}

/// Whether the first part of a name is a host, by Docker's rule.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.chars().any(|c| c.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let address = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let good = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|part| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            ends(part.chars().next()) && ends(part.chars().last()) && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        }),
    };
    if good && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Ok(());
    }
    Err(format!("\"{host}\" is no host of a registry"))
}

fn check_repository(repository: &str, whole: &str) -> Result<(), String> {
    if repository.len() > 255 {
        return Err(format!("the name \"{whole}\" is longer than 255 characters"));
    }
    for part in repository.split('/') {
        let mut chars = part.chars().peekable();
        let mut alphanumeric = false;
        let mut good = !part.is_empty();
        while let Some(c) = chars.next() {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                alphanumeric = true;
                continue;
            }
            // Allowed between letters and digits: a dot, one or two underscores, or any number of dashes.
            good &= alphanumeric && ".-_".contains(c);
            let mut count = 1;
            while chars.peek() == Some(&c) {
                chars.next();
                count += 1;
            }
            good &= count
                <= match c {
                    '-' => usize::MAX,
                    '_' => 2,
                    _ => 1,
                };
            alphanumeric = false;
        }
        if !good || !alphanumeric {
            let strange = part.chars().find(|c| !c.is_ascii_lowercase() && !c.is_ascii_digit() && !"._-".contains(*c));
            let strange = strange.map_or_else(String::new, |letter| format!(", not {}", shown_letter(letter)));
            return Err(format!("\"{whole}\" is not an image name: its parts have lowercase letters and digits{strange}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_docker_takes_them_for() {
        let hex = "a".repeat(64);
        for (text, whole) in [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:7", "docker.io/library/redis:7"),
            ("bitnami/redis:7.0_x", "docker.io/bitnami/redis:7.0_x"),
            ("index.docker.io/redis", "docker.io/library/redis:latest"),
            ("docker.io/library/redis:7", "docker.io/library/redis:7"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("localhost/x:1", "localhost/x:1"),
            ("ghcr.io/o/n", "ghcr.io/o/n:latest"),
            ("[::1]:5000/a/b:c", "[::1]:5000/a/b:c"),
            ("127.0.0.1:5000/a__b/c--d.e:t", "127.0.0.1:5000/a__b/c--d.e:t"),
        ] {
            let found = Reference::parse(text, DOCKER_HUB).unwrap();
            assert_eq!(found.to_string(), whole, "{text}");
            assert_eq!(Reference::parse(whole, "elsewhere").unwrap(), Reference::parse(whole, DOCKER_HUB).unwrap());
        }
        let both = format!("ghcr.io/o/n:1@sha256:{hex}");
        let found = Reference::parse(&both, DOCKER_HUB).unwrap();
        assert_eq!((found.to_string(), found.wanted()), (both, format!("sha256:{hex}")));
        assert_eq!(Reference::parse("redis", "quay.io").unwrap().to_string(), "quay.io/redis:latest");
    }

    #[test]
    fn what_is_no_name_is_told() {
        for (text, why) in [
            ("Redis", "perhaps \"redis\""),
            ("redis:", "is not a tag"),
            ("redis:-x", "is not a tag"),
            ("redis@sha256:12", "is not a supported digest"),
            ("redis@md5:12", "is not a supported digest"),
            ("https://ghcr.io/o/n", "no scheme"),
            ("ghcr.io/", "is not an image name"),
            ("", "is not an image name"),
            ("a//b", "is not an image name"),
            ("a/___b", "is not an image name"),
            ("a/b-", "is not an image name"),
            ("a/../b", "is not an image name"),
            ("host:99999/x", "no host"),
            ("ho st.x/y", "has a blank"),
            ("a name:1", "\"a name:1\" is not an image name: it has a blank; perhaps \"a-name:1\""),
            (" redis:7 ", "has a blank; perhaps \"redis:7\""),
            ("redis:7\n", "\"redis:7\\n\" is not an image name: it has a line break; perhaps \"redis:7\""),
            ("redis:7 alpine", "has a blank; perhaps \"redis:7-alpine\""),
            ("shop/web&api", "not '&'; perhaps \"shop/web-api\""),
            ("Shop/Web:V1", "perhaps \"Shop/web:V1\""),
            ("redis: 7", "has a blank; perhaps \"redis:7\""),
            ("redis:", "perhaps \"redis\""),
            ("ghcr.io/a//b", "perhaps \"ghcr.io/a/b\""),
        ] {
            let found = Reference::parse(text, DOCKER_HUB).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
        assert!(Reference::parse(&"a".repeat(300), DOCKER_HUB).is_err());
        // What would be wrong, too, is not suggested.
        for text in ["redis@sha256:12", "host:99999/x", "ghcr.io/", "", "é", "a b@sha256:1"] {
            let found = Reference::parse(text, DOCKER_HUB).unwrap_err();
            assert!(!found.contains("perhaps"), "{text}: {found}");
        }
    }
}
