//! States of a layer's digest at places in its tar, so that a tree that begins as an earlier one did is read from there on only.
//!
//! SHA-256 takes its input in order: without this, a small change in a large layer costs reading all of the layer.

use super::gate::Sink;
use crate::model::{Digest, Hasher};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// How many bytes of the tar lie between two states, at least.
const APART: u64 = 1 << 20;

/// What is known of a tar that was digested.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checkpoints {
    /// For each part that is known, a digest of all that is in it; a part that is not known ends the list.
    marks: Vec<Digest>,
    states: Vec<State>,
    /// A digest of both: from a damaged state, the layer would get a wrong name.
    seal: Option<Digest>,
}

/// The state of a digest where a part of the tar ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    parts: usize,
    length: u64,
    hasher: String,
}

impl Checkpoints {
    /// The checkpoints of a tar with these parts and states.
    pub fn new(marks: Vec<Option<Digest>>, states: Vec<State>) -> Self {
        let marks: Vec<Digest> = marks.into_iter().map_while(|mark| mark).collect();
        let states: Vec<State> = states.into_iter().filter(|state| state.parts <= marks.len()).collect();
        let seal = Some(Digest::of_json(&(&marks, &states)));
        Self { marks, states, seal }
    }

    /// Puts a counter where the last state is before these parts differ from those of the earlier tar, and returns the number of
    /// parts that it has counted there.
    pub fn last_before(&self, marks: &[Option<Digest>], counter: &mut Counter) -> usize {
        if self.seal != Some(Digest::of_json(&(&self.marks, &self.states))) {
            return 0;
        }
        let same = self.marks.iter().zip(marks).take_while(|(one, other)| Some(**one) == **other).count();
        let usable = self.states.iter().take_while(|state| state.parts <= same).count();
        let begun = self.states[..usable].last().and_then(|state| Some((state, Hasher::resume(&state.hasher)?)));
        let Some((state, hasher)) = begun else { return 0 };
        *counter = Counter { hasher, length: state.length, parts: state.parts, states: self.states[..usable].to_vec() };
        state.parts
    }
}

/// Counts and digests the bytes of a tar.
#[derive(Default)]
pub struct Counter {
    pub hasher: Hasher,
    pub length: u64,
    parts: usize,
    pub states: Vec<State>,
}

impl Sink for Counter {
    /// Notes the state where a part of the tar ends.
    fn ended(&mut self) {
        self.parts += 1;
        if self.length >= self.states.last().map_or(0, |state| state.length) + APART {
            self.states.push(State { parts: self.parts, length: self.length, hasher: self.hasher.state() });
        }
    }
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
