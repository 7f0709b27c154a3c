//! Debian version numbers and their order (Debian Policy, section 5.6.12).

use std::cmp::Ordering;

/// Compares two versions as dpkg does.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, a) = epoch(a);
    let (epoch_b, b) = epoch(b);
    let (upstream_a, revision_a) = a.rsplit_once('-').unwrap_or((a, "0"));
    let (upstream_b, revision_b) = b.rsplit_once('-').unwrap_or((b, "0"));
    epoch_a.cmp(&epoch_b).then_with(|| part(upstream_a, upstream_b)).then_with(|| part(revision_a, revision_b))
}

fn epoch(version: &str) -> (u64, &str) {
    version.split_once(':').and_then(|(epoch, rest)| Some((epoch.parse().ok()?, rest))).unwrap_or((0, version))
}

/// Compares in turns: a stretch without digits, then a number.
fn part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        loop {
            let left = a.first().filter(|c| !c.is_ascii_digit());
            let right = b.first().filter(|c| !c.is_ascii_digit());
            if left.is_none() && right.is_none() {
                break;
            }
            let order = weight(left).cmp(&weight(right));
            if order != Ordering::Equal {
                return order;
            }
            a = &a[1..];
            b = &b[1..];
        }
        let order = number(&mut a).cmp(&number(&mut b));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// The order of characters: `~` before the end, the end before letters, letters before everything else.
fn weight(c: Option<&u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

fn number(text: &mut &[u8]) -> (usize, Vec<u8>) {
    let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    *text = rest;
    let significant: Vec<u8> = number.iter().copied().skip_while(|c| *c == b'0').collect();
    (significant.len(), significant)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases from Debian Policy 5.6.12 and dpkg's behaviour.
    #[test]
    fn order_is_that_of_dpkg() {
        for (a, b, order) in [
            ("1.0", "1.0", Ordering::Equal),
            ("1.0-1", "1.0-2", Ordering::Less),
            ("1:0.1", "2.0", Ordering::Greater),
            ("1.0~rc1", "1.0", Ordering::Less),
            ("1.0~~", "1.0~", Ordering::Less),
            ("1.0+b1", "1.0", Ordering::Greater),
            ("1.2", "1.10", Ordering::Less),
            ("1.0a", "1.0+", Ordering::Less),
            ("001.2", "1.2", Ordering::Equal),
            ("2.36-9+deb12u14", "2.36-9+deb12u9", Ordering::Greater),
            ("1.0-0", "1.0", Ordering::Equal),
            ("0.99999999999999999999", "0.100000000000000000000", Ordering::Less),
        ] {
            assert_eq!(compare(a, b), order, "{a} {b}");
            assert_eq!(compare(b, a), order.reverse(), "{b} {a}");
        }
    }
}
