//! Paths as instructions write them, judged by their text alone.

/// Where the socket of an agent is, if nothing else is said.
pub const AGENT: &str = "/run/buildkit/ssh_agent.0";

/// A source in the form of a step: `..` stops at the top of the context, as at the root; the mark `/./` is kept.
pub fn source(word: &str, of_image: bool) -> String {
    let cleaned: Vec<String> = word.split("/./").map(|part| clean("", part).trim_start_matches('/').to_owned()).collect();
    let slash = if word.ends_with('/') && word.len() > 1 { "/" } else { "" };
    let word = format!("{}{slash}", cleaned.join("/./"));
    match (word.is_empty(), of_image) {
        (true, true) => "/".into(),
        (true, false) => ".".into(),
        (false, true) => format!("/{word}"),
        (false, false) => word,
    }
}

/// A path made absolute from a working directory, without `.` and `..`.
pub fn clean(workdir: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{workdir}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
