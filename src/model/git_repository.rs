//! Addresses of git repositories.

use super::Misfit;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The help for errors that have none of their own.
const PLACE: &str = "write https://HOST/PATH";

/// A repository that can be fetched from (git-clone, "GIT URLS").
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GitRepository {
    /// The address over http or https, perhaps with a user name and a password.
    Web(String),
    Ssh {
        /// The host, perhaps with a user in front.
        login: String,
        port: Option<u16>,
        path: String,
    },
}

impl GitRepository {
    /// Parses an address: a URL, or `USER@HOST:PATH`.
    ///
    /// # Errors
    /// What is wrong with the address, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, Misfit> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Web(text.to_owned()));
        }
        let (login, port, path) = if let Some(rest) = text.strip_prefix("ssh://") {
            let (login, path) = rest.split_once('/').unwrap_or((rest, ""));
            // A colon before the `@` separates a user from a password, not a host from a port.
            let at = login.rfind('@').map_or(0, |at| at + 1);
            let (login, port) = match login[at..].rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
                Some((host, port)) => {
                    let number = port
                        .parse()
                        .map_err(|_| Misfit::new(format!("\"{port}\" is no port"), "write ssh://USER@HOST:PORT/PATH"))?;
                    (&login[..at + host.len()], Some(number))
                }
                None => (login, None),
            };
            // `~user` is a user's home directory, so it must not become an absolute path.
            let path = if path.starts_with('~') { path.to_owned() } else { format!("/{path}") };
            (login.replace(['[', ']'], ""), port, path)
        } else if let Some((login, path)) =
            text.split_once(':').filter(|(login, path)| is_login(login) && !path.starts_with("//"))
        {
            (login.to_owned(), None, path.to_owned())
        } else {
            let git = if text.starts_with("git://") { "; git:// authenticates neither side" } else { "" };
            return Err(Misfit::new(
                format!("a repository is on the web or behind ssh{git}"),
                "write https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH",
            ));
        };
        let (user, host) = login.rsplit_once('@').unwrap_or(("", &login));
        if user.contains(':') {
            return Err(Misfit::new("ssh takes no password from an address", "use a key, and take the password out"));
        }
        // A leading hyphen would make it an option of ssh (CVE-2017-1000117), or of the program that ssh starts.
        if user.starts_with('-') || host.starts_with('-') || path.starts_with('-') {
            return Err(Misfit::new(format!("in \"{text}\" a user, a host or a path begins with a hyphen"), PLACE));
        }
        // Both may end up in a command of ssh's configuration (CVE-2023-51385).
        let legal = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        if host.is_empty() || !legal(host, "-._:%") || !legal(user, "-._+") {
            return Err(Misfit::new(format!("\"{login}\" is not a host, nor a user at a host"), PLACE));
        }
        if path.trim_matches('/').is_empty() || path.contains(['\0', '\n']) {
            return Err(Misfit::new(format!("\"{text}\" has no path behind its host"), PLACE));
        }
        Ok(Self::Ssh { login, port, path })
    }

    /// Whether text is meant as the address of a repository that is not on the web, even if the address is wrong.
    pub fn is_other(text: &str) -> bool {
        let short = text.split_once(':').is_some_and(|(login, rest)| is_login(login) && !rest.starts_with("//"));
        text.starts_with("ssh://") || text.starts_with("git://") || short
    }

    /// The address for messages: without the user name and password of a web address.
    pub fn shown(&self) -> String {
        match self {
            Self::Web(address) => without_login(address),
            Self::Ssh { .. } => self.to_string(),
        }
    }

    /// Where a submodule of this repository is: `place` is absolute, or relative to this repository (gitmodules).
    ///
    /// # Errors
    /// Why it must not be fetched: a relative path leaves the host, the address is neither on the web nor behind ssh, or
    /// it needs ssh keys and this repository does not.
    pub fn submodule(&self, place: &str) -> Result<Self, String> {
        if place.starts_with("./") || place.starts_with("../") {
            return self.beside(place).ok_or_else(|| format!("\"{place}\" leads out of {}", self.shown()));
        }
        match (self, Self::parse(place).map_err(|_| format!("it is at \"{place}\", which is neither on the web nor behind ssh"))?)
        {
            // The author of a public repository must not be able to name private ones that only the user can read.
            (Self::Web(_), Self::Ssh { .. }) => {
                Err(format!("it is at {place}, behind ssh, and a repository of the web does not get your keys"))
            }
            (_, found) => Ok(found),
        }
    }

    fn beside(&self, place: &str) -> Option<Self> {
        let (origin, path) = match self {
            Self::Web(address) => {
                let start = address.find("://")? + 3;
                address.split_at(start + address[start..].find('/').unwrap_or(address.len() - start))
            }
            Self::Ssh { path, .. } => ("", path.as_str()),
        };
        let (mut base, mut rest) = (path.trim_end_matches('/'), place);
        loop {
            if let Some(further) = rest.strip_prefix("../") {
                if base.is_empty() {
                    return None;
                }
                (base, rest) = (base.rsplit_once('/').map_or("", |(folder, _)| folder), further);
            } else if let Some(further) = rest.strip_prefix("./") {
                rest = further;
            } else {
                break;
            }
        }
        let slash = if path.starts_with('/') || !base.is_empty() { "/" } else { "" };
        let path = format!("{base}{slash}{rest}");
        let whole = match self {
            Self::Web(_) => Self::Web(format!("{origin}{path}")),
            Self::Ssh { login, port, .. } => Self::Ssh { login: login.clone(), port: *port, path },
        };
        // Paths from outside must pass the same checks.
        Self::parse(&whole.to_string()).ok()
    }
}

/// Whether the text before a colon is the `USER@HOST` of `USER@HOST:PATH`.
fn is_login(text: &str) -> bool {
    text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()) && !text.contains('/')
}

/// A web address without the user name and password in it.
pub fn without_login(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    format!("{scheme}://{host}{}", &rest[end..])
}

impl fmt::Display for GitRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(address) => f.write_str(address),
            Self::Ssh { login, port: None, path } if login.contains('@') && !login.contains(':') && !path.starts_with('/') => {
                write!(f, "{login}:{path}")
            }
            Self::Ssh { login, port, path } => {
                let (user, host) =
                    login.rsplit_once('@').map_or((String::new(), login.as_str()), |(user, host)| (format!("{user}@"), host));
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{user}{host}{port}/{}", path.trim_start_matches('/'))
            }
        }
    }
}

impl TryFrom<String> for GitRepository {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|why| why.message)
    }
}

impl From<GitRepository> for String {
    fn from(repository: GitRepository) -> Self {
        repository.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(login: &str, port: Option<u16>, path: &str) -> GitRepository {
        GitRepository::Ssh { login: login.into(), port, path: path.into() }
    }

    #[test]
    fn addresses_are_read_as_git_reads_them_and_written_again() {
        for (text, wanted) in [
            ("https://x.org/a.git", GitRepository::Web("https://x.org/a.git".into())),
            ("git@x.org:group/a.git", ssh("git@x.org", None, "group/a.git")),
            ("git@x.org:~me/a", ssh("git@x.org", None, "~me/a")),
            ("ssh://x.org/srv/a.git", ssh("x.org", None, "/srv/a.git")),
            ("ssh://git@x.org:2222/~me/a", ssh("git@x.org", Some(2222), "~me/a")),
            ("ssh://git@[fe80::1%eth0]:22/a", ssh("git@fe80::1%eth0", Some(22), "/a")),
            ("ssh://git@[::1]/a", ssh("git@::1", None, "/a")),
        ] {
            let found = GitRepository::parse(text).unwrap();
            assert_eq!(found, wanted, "{text}");
            assert_eq!(found.to_string(), text);
        }
        // An absolute path in the short form.
        let found = GitRepository::parse("git@x.org:/srv/a").unwrap();
        assert_eq!(GitRepository::parse(&found.to_string()), Ok(ssh("git@x.org", None, "/srv/a")));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, why) in [
            ("git://x.org/a", "authenticates neither side"),
            ("/srv/a.git", "write https://"),
            ("file:///srv/a", "write https://"),
            ("x.org:a", "write https://"),
            ("ext::sh -c evil", "write https://"),
            ("ssh://x.org", "no path"),
            ("git@x.org:", "no path"),
            ("ssh://x.org:no/a", "no port"),
            ("ssh://me:secret@x.org/a", "no password"),
            ("ssh://-oProxyCommand=evil/a", "hyphen"),
            ("ssh://-l@x.org/a", "hyphen"),
            ("git@-oProxyCommand=evil:a", "hyphen"),
            ("git@x.org:--upload-pack=evil", "hyphen"),
            ("git@x;y:a", "not a host"),
            ("$(evil)@x.org:a", "not a host"),
        ] {
            let said = GitRepository::parse(text).unwrap_err();
            assert!(format!("{} {}", said.message, said.help).contains(why), "{text}: {said:?}");
        }
    }

    #[test]
    fn passwords_are_for_servers_only() {
        assert_eq!(GitRepository::parse("https://me:a/b@x.org/r").map(|place| place.shown()).unwrap(), "https://me:a/b@x.org/r");
        for (address, wanted) in [
            ("https://me:secret@x.org/a@b", "https://x.org/a@b"),
            ("http://token@x.org", "http://x.org"),
            ("https://x.org/a?q=b@c", "https://x.org/a?q=b@c"),
            ("no address", "no address"),
        ] {
            assert_eq!(without_login(address), wanted);
        }
    }

    #[test]
    fn submodules_stay_where_their_keys_are() {
        let web = "https://me:secret@x.org/group/app.git/";
        let short = "git@x.org:group/app.git";
        let long = "ssh://git@x.org:22/group/app.git";
        for (above, place, wanted) in [
            (web, "../lib.git", Ok("https://me:secret@x.org/group/lib.git")),
            (web, "../../other/lib.git", Ok("https://me:secret@x.org/other/lib.git")),
            (web, "./inner", Ok("https://me:secret@x.org/group/app.git/inner")),
            (web, "../../../evil.org/lib", Err("leads out")),
            (web, "../../../../lib", Err("leads out")),
            (web, "https://y.org/lib", Ok("https://y.org/lib")),
            (web, "git@y.org:lib", Err("does not get your keys")),
            (web, "/etc", Err("neither")),
            (web, "file:///etc", Err("neither")),
            (short, "../lib.git", Ok("git@x.org:group/lib.git")),
            (short, "../../lib.git", Ok("git@x.org:lib.git")),
            (short, "../../../lib.git", Err("leads out")),
            (short, "../../-evil", Err("leads out")),
            (short, "git@y.org:lib", Ok("git@y.org:lib")),
            (short, "https://y.org/lib", Ok("https://y.org/lib")),
            (long, "../../lib.git", Ok("ssh://git@x.org:22/lib.git")),
            (long, "../../../lib.git", Err("leads out")),
        ] {
            let found = GitRepository::parse(above).unwrap().submodule(place).map(|place| place.to_string());
            match wanted {
                Ok(wanted) => assert_eq!(found.as_deref(), Ok(wanted), "{above} {place}"),
                Err(why) => assert!(found.as_ref().is_err_and(|said| said.contains(why)), "{above} {place}: {found:?}"),
            }
        }
    }
}
