//! Guesses from the names of variables which of them hold secrets.

/// Whether a variable's name looks like that of a secret.
pub fn looks_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split(['_', '-', '.']).collect();
    ["password", "passwd", "secret", "token", "apikey", "credentials"].iter().any(|word| words.contains(word))
        || words.windows(2).any(|pair| matches!(pair, ["api" | "private" | "access" | "secret", "key"]))
}
