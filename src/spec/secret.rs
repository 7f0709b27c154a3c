//! Which variables hold what nobody else may read, by their names.

/// Whether a variable's name is one that people give to secrets.
pub fn looks_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split(['_', '-', '.']).collect();
    ["password", "passwd", "secret", "token", "apikey", "credentials"].iter().any(|word| words.contains(word))
        || words.windows(2).any(|pair| matches!(pair, ["api" | "private" | "access" | "secret", "key"]))
}
