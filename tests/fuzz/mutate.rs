//! How one input is turned into another: with bytes, numbers, words of a dictionary, pieces of other inputs.

use fastrand::Rng;

/// The maximum length of an input.
const LONGEST: usize = 1 << 18;

/// Numbers at the limits of integers and floating point.
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

/// Makes an input from one of the corpus.
pub fn mutate(random: &mut Rng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = pick(random, corpus).clone();
    // Most mutants stay near a valid input, because those reach deep into the parser.
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

/// A random range: some position, and some length from there.
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
            // Replaces a piece of the input with a piece of another.
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
            // Repeats a piece many times.
            let times = 1 << random.u32(1..10);
            let place = piece(random, bytes.len());
            let repeated = bytes[place.start..place.end.min(place.start + 64)].repeat(times);
            bytes.splice(at..at, repeated);
        }
        12 => {
            // Inserts something that opens and does not close.
            let opening = *pick(random, &["[", "{", "(", "{\"a\":", "a{", "/-", "\"", "<", "${", "a {\n"]);
            let deep = opening.repeat(1 << random.u32(1..14));
            bytes.splice(at..at, deep.into_bytes());
        }
        13 => bytes.truncate(at),
        _ => {}
    }
}

/// Replaces a decimal number with another.
fn number(random: &mut Rng, bytes: &mut Vec<u8>) {
    let from = random.usize(0..=bytes.len());
    let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|at| at + from) else { return };
    let end = bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |length| start + length);
    let new = if random.bool() { (*pick(random, &NUMBERS)).to_owned() } else { random.u64(..).to_string() };
    bytes.splice(start..end, new.into_bytes());
}
