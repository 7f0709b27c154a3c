//! Signals by the names that Linux and Docker know them by (signal(7); moby/sys/signal).

use super::nearest;

/// The standard signals of x86-64 and arm64, each in its place.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

const OTHERS: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// The real-time signals that programs may use: the C library keeps the first two of the kernel's for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of a signal, given by name (with or without `SIG`, in any case) or by number: `TERM`, `sigrtmin+3`, `37`.
pub fn signal_number(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (1..=RTMAX).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<i32>().ok().filter(|offset| (0..=RTMAX - RTMIN).contains(offset)),
        false => None,
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => return Some(RTMIN),
        (_, Some("")) => return Some(RTMAX),
        (Some(more), _) => return offset(more.strip_prefix('+')?).map(|offset| RTMIN + offset),
        (_, Some(less)) => return offset(less.strip_prefix('-')?).map(|offset| RTMAX - offset),
        _ => {}
    }
    let standard = NAMES.iter().position(|known| *known == name).and_then(|at| i32::try_from(at + 1).ok());
    standard.or_else(|| OTHERS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number))
}

/// The name of a signal, such as `SIGTERM` or `SIGRTMIN+3`.
pub fn signal_name(number: i32) -> String {
    let name = usize::try_from(number - 1).ok().and_then(|at| NAMES.get(at));
    match name {
        Some(name) => format!("SIG{name}"),
        None if (RTMIN..=RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => format!("signal {number}"),
    }
}

/// The signal that was probably meant.
pub fn nearest_signal(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let names = NAMES.map(str::to_ascii_lowercase);
    let near = nearest(lower.strip_prefix("sig").unwrap_or(&lower), names.iter().map(String::as_str))?;
    NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(near))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_numbers_of_the_kernel() {
        assert_eq!([15, 37, 34, 99].map(signal_name), ["SIGTERM", "SIGRTMIN+3", "SIGRTMIN+0", "signal 99"]);
        for number in 1..=31 {
            let signal = nix::sys::signal::Signal::try_from(number).unwrap();
            assert_eq!(signal_number(signal.as_str()), Some(number), "{signal}");
            assert_eq!(signal_number(&number.to_string()), Some(number));
        }
        for (name, number) in [
            ("term", 15),
            ("SigTerm", 15),
            ("POLL", 29),
            ("SIGSTKFLT", 16),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+15", 49),
            ("RTMAX-14", 50),
            ("RTMAX", 64),
            ("37", 37),
        ] {
            assert_eq!(signal_number(name), Some(number), "{name}");
        }
        for name in
            ["", "0", "65", "-9", "+9", "FOO", "RTMIN3", "RTMIN+31", "RTMIN+", "RTMIN+-1", "RTMAX+1", "SIG", "９", "SIGSIGTERM"]
        {
            assert_eq!(signal_number(name), None, "{name}");
        }
        assert_eq!(nearest_signal("SIGTEMR"), Some("TERM"));
    }
}
