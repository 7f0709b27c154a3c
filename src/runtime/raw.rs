//! What of a process's command line is not text in UTF-8. Processes are stored and sent as JSON, in which only text can be
//! said, so a blueprint or a request has these bytes beside its process, which has a readable form of them.

use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Bytes that replace text of a process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Raw {
    /// The program and its arguments, or nothing if all of them are text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    args: Vec<Bytes>,
    /// Variables, as `NAME=VALUE`, in place of those that have the same names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    env: Vec<Bytes>,
    /// The working directory, or nothing if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workdir: Option<Bytes>,
}

/// Bytes, which are written as a text with one character for each: its number is the byte's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Bytes(Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.0.into_iter().map(char::from).collect()
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let byte = |letter: char| u8::try_from(letter).map_err(|_| format!("{letter:?} stands for no byte"));
        text.chars().map(byte).collect::<Result<_, _>>().map(Self)
    }
}

impl From<&OsStr> for Bytes {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// A variable as it is typed: its name and its value.
pub type Variable = (OsString, OsString);

impl Raw {
    /// Whether there is nothing in it, because everything is text.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the words of a command. Returns them in a readable form.
    pub fn take_args(&mut self, words: &[OsString]) -> Vec<String> {
        if words.iter().any(|word| word.to_str().is_none()) {
            self.args = words.iter().map(|word| Bytes::from(word.as_os_str())).collect();
        }
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// Adds the words that a process has before those that were taken: its entrypoint.
    pub fn complete(&mut self, process: &Process) {
        let all = process.args().as_deref().unwrap_or_default();
        if !self.args.is_empty() {
            let before = &all[..all.len().saturating_sub(self.args.len())];
            self.args.splice(0..0, before.iter().map(|word| Bytes::from(OsStr::new(word))));
        }
    }

    /// Takes the variables that are not text. Returns the others.
    pub fn take_env(&mut self, variables: &[Variable]) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for (name, value) in variables {
            match (name.to_str(), value.to_str()) {
                (Some(name), Some(value)) => texts.push((name.to_owned(), value.to_owned())),
                _ => self.env.push(Bytes([name.as_bytes(), b"=", value.as_bytes()].concat())),
            }
        }
        texts
    }

    /// Takes a working directory. Returns it in a readable form.
    pub fn take_workdir(&mut self, workdir: &OsStr) -> String {
        if workdir.to_str().is_none() {
            self.workdir = Some(Bytes::from(workdir));
        }
        workdir.to_string_lossy().into_owned()
    }

    /// The working directory of a process.
    pub fn workdir(&self, process: &Process) -> PathBuf {
        match &self.workdir {
            Some(Bytes(bytes)) => Path::new("/").join(OsStr::from_bytes(bytes)),
            None => process.cwd().clone(),
        }
    }

    /// The program and the arguments of a process.
    pub fn args(&self, process: &Process) -> Vec<OsString> {
        if self.args.is_empty() {
            return process.args().iter().flatten().map(OsString::from).collect();
        }
        self.args.iter().map(|Bytes(bytes)| OsString::from_vec(bytes.clone())).collect()
    }

    /// The environment of a process.
    pub fn env(&self, process: &Process) -> Vec<OsString> {
        let names: Vec<&[u8]> = self.env.iter().map(|Bytes(pair)| name_of(pair)).collect();
        let texts = process.env().iter().flatten().filter(|pair| !names.contains(&name_of(pair.as_bytes())));
        let raw = self.env.iter().map(|Bytes(pair)| OsString::from_vec(pair.clone()));
        texts.map(OsString::from).chain(raw).collect()
    }
}

fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(bytes: &[u8]) -> OsString {
        OsString::from_vec(bytes.to_vec())
    }

    fn process() -> Process {
        let mut process = Process::default();
        process.set_args(Some(vec!["as".into(), "text".into()])).set_env(Some(vec!["A=1".into(), "B=2".into()]));
        process
    }

    #[test]
    fn every_byte_comes_back_from_json() {
        let all: Vec<u8> = (1..=255).collect();
        let mut raw = Raw::default();
        let shown = raw.take_args(&[os(&all), os("é".as_bytes())]);
        let mut whole = process();
        whole.set_args(Some([vec!["env".to_owned()], shown.clone()].concat()));
        raw.complete(&whole);
        assert!(shown[0].contains('\u{fffd}') && shown[1] == "é", "{shown:?}");
        assert_eq!(raw.take_env(&[(os(b"A"), os(b"\xff")), (os(b"B"), os(b"text"))]), [("B".into(), "text".into())]);
        assert_eq!(raw.take_workdir(OsStr::from_bytes(b"srv/\xe9")), "srv/\u{fffd}");
        let again: Raw = serde_json::from_slice(&serde_json::to_vec(&raw).unwrap()).unwrap();
        assert_eq!(again, raw);
        assert_eq!(again.args(&process()), [os(b"env"), os(&all), os("é".as_bytes())]);
        assert_eq!(again.env(&process()), [os(b"B=2"), os(b"A=\xff")], "it replaces the variable of its name");
        assert_eq!(again.workdir(&process()), Path::new(OsStr::from_bytes(b"/srv/\xe9")));
    }

    #[test]
    fn what_is_text_stays_in_the_process() {
        let mut raw = Raw::default();
        assert_eq!(raw.take_args(&[os(b"echo"), os("ÿ\u{80}".as_bytes())]), ["echo", "ÿ\u{80}"]);
        assert_eq!(raw.take_env(&[(os(b"A"), os(b"a=b"))]), [("A".into(), "a=b".into())]);
        assert_eq!(raw.take_workdir(OsStr::new("/é")), "/é");
        raw.complete(&process());
        assert!(raw.is_empty() && serde_json::to_string(&raw).unwrap() == "{}");
        assert_eq!(raw.args(&process()), [os(b"as"), os(b"text")]);
        assert_eq!(raw.env(&process()), [os(b"A=1"), os(b"B=2")]);
    }

    #[test]
    fn what_stands_for_no_byte_is_refused() {
        assert!(serde_json::from_str::<Raw>(r#"{"args":["\u0100"]}"#).is_err());
    }
}
