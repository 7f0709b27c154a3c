//! How an input becomes another: bytes, numbers, words of a dictionary, pieces of others.

use fastrand::Rng;

/// The longest input.
const LONGEST: usize = 1 << 18;

/// Numbers at which arithmetic ends.
const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e309",
];

/// An input made of one of the others.
pub fn mutate(random: &mut Rng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = pick(random, corpus).clone();
    // Most are near what is good: there the deep places are.
    let steps = 1 << random.u32(0..5);
    for _ in 0..steps {
        step(random, corpus, words, &mut bytes);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(0..from.len())]
}

/// Some place, and some length from there.
fn piece(random: &mut Rng, length: usize) -> std::ops::Range<usize> {
    let at = random.usize(0..=length);
    let short = random.usize(0..=16);
    let most = length - at;
    at..at + if random.bool() { short.min(most) } else { random.usize(0..=most) }
}

fn step(random: &mut Rng, corpus: &[Vec<u8>], words: &[&str], bytes: &mut Vec<u8>) {
    let at = random.usize(0..=bytes.len());
    match (random.u32(0..14), bytes.get_mut(at)) {
        (0 | 1, Some(byte)) => *byte ^= 1 << random.u32(0..8),
        (2, Some(byte)) => *byte = random.u8(..),
        (kind, _) => large_step(kind, at, random, corpus, words, bytes),
    }
}

fn large_step(kind: u32, at: usize, random: &mut Rng, corpus: &[Vec<u8>], words: &[&str], bytes: &mut Vec<u8>) {
    match kind {
        3 => bytes.insert(at, random.u8(..)),
        4 => drop(bytes.drain(piece(random, bytes.len()))),
        5 => {
            let copied = bytes[piece(random, bytes.len())].to_vec();
            bytes.splice(at..at, copied);
        }
        6 => {
            // A piece of another, in place of one of its own.
            let other = pick(random, corpus);
            let taken = other[piece(random, other.len())].to_vec();
            let place = piece(random, bytes.len());
            bytes.splice(place, taken);
        }
        7 | 8 if !words.is_empty() => {
            let word = pick(random, words).as_bytes().to_vec();
            let end = if random.bool() { at } else { (at + word.len()).min(bytes.len()) };
            bytes.splice(at..end, word);
        }
        9 => number(random, bytes),
        10 => {
            let width = 1 << random.u32(0..4);
            let value = [0, 1, u64::MAX, u64::MAX - 511, i64::MAX as u64, 1 << 31, u64::from(u32::MAX)][random.usize(0..7)];
            let raw = if random.bool() { value.to_le_bytes() } else { value.to_be_bytes() };
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&raw[..end - at]);
        }
        11 => {
            // The same many times over.
            let times = 1 << random.u32(1..10);
            let place = piece(random, bytes.len());
            let repeated = bytes[place.start..place.end.min(place.start + 64)].repeat(times);
            bytes.splice(at..at, repeated);
        }
        12 => {
            // Something that opens and does not close.
            let opening = *pick(random, &["[", "{", "(", "{\"a\":", "a{", "/-", "\"", "<", "${", "a {\n"]);
            let deep = opening.repeat(1 << random.u32(1..14));
            bytes.splice(at..at, deep.into_bytes());
        }
        13 => bytes.truncate(at),
        _ => {}
    }
}

/// Puts another number in the place of one in digits.
fn number(random: &mut Rng, bytes: &mut Vec<u8>) {
    let from = random.usize(0..=bytes.len());
    let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|at| at + from) else { return };
    let end = bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |length| start + length);
    let new = if random.bool() { (*pick(random, &NUMBERS)).to_owned() } else { random.u64(..).to_string() };
    bytes.splice(start..end, new.into_bytes());
}
