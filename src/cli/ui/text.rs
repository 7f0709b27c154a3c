//! What may be printed: text that is safe on a terminal, and its styles.
//!
//! Text by others becomes [`Text`] only after its control characters were made visible; styles are added after that.
//! Nothing outside of this module turns a `Text` back into a string, so what is printed went through here exactly once. The
//! library that draws views gets it as spans.

use crate::model::{visible, visible_line};
use ratatui::style::Style as Look;
use ratatui::text::Span;
use std::borrow::Cow;
use std::ops::{Add, AddAssign};

/// Text that a terminal shows and does not obey, except for the styles that this program added.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Text(String);

/// A colour. The text always says the same without it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    Good,
    Change,
    Bad,
    Dim,
    Bold,
    /// For what widens what a project is trusted with.
    Trust,
    Cyan,
    Blue,
    Magenta,
}

impl Style {
    /// Text in this style, if styles are wanted.
    pub fn paint(self, text: impl Into<Text>, on: bool) -> Text {
        let code = match self {
            Self::Good => "32",
            Self::Change => "33",
            Self::Bad => "31",
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Trust => "1;35",
            Self::Cyan => "36",
            Self::Blue => "34",
            Self::Magenta => "35",
        };
        let text = text.into();
        if on { Text(format!("\u{1b}[{code}m{}\u{1b}[0m", text.0)) } else { text }
    }
}

impl Text {
    /// Text by others that must stay on one line: a name, a path, a command.
    pub fn line(text: &str) -> Self {
        Self(visible_line(text).into_owned())
    }

    /// Text that was already made safe, piece by piece.
    pub(super) const fn safe(text: String) -> Self {
        Self(text)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn as_safe(&self) -> &str {
        &self.0
    }

    /// Appends the text to a container's own output, which is printed as it is.
    pub fn push_to(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(self.0.as_bytes());
    }

    /// The text in a view. Control characters do not get past the library that draws it, either.
    pub fn span(&self, look: Look) -> Span<'_> {
        Span::styled(self.0.as_str(), look)
    }

    /// The lines of a text without style, with spaces in place of tabs.
    pub fn lines(&self) -> Vec<Self> {
        self.0.lines().map(|line| Self(line.replace('\t', "    "))).collect()
    }

    /// Whether some other text is in it; capitals are as small letters.
    pub fn contains(&self, other: &str) -> bool {
        other.is_empty() || self.0.to_lowercase().contains(&other.to_lowercase())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without white space at its end.
    pub fn trimmed(self) -> Self {
        Self(self.0.trim_end().to_owned())
    }

    /// The number of columns that the text takes, if it has no style.
    pub fn width(&self) -> usize {
        self.0.chars().count()
    }

    /// At most `width` characters of a text without style.
    pub fn cut(self, width: usize) -> Self {
        if self.width() <= width { self } else { Self(self.0.chars().take(width).collect()) }
    }

    /// As [`Self::cut`], with a mark where something is missing.
    pub fn shortened(self, width: usize) -> Self {
        if self.width() <= width { self } else { Self(self.0.chars().take(width.saturating_sub(1)).chain(['…']).collect()) }
    }

    /// A text without style in lines of at most `width` characters, broken between words where there are any.
    pub fn wrapped(self, width: usize) -> Vec<Self> {
        let (mut lines, mut rest) = (Vec::new(), self.0.as_str());
        while let Some((end, _)) = rest.char_indices().nth(width.max(1)) {
            let at = if rest[end..].starts_with(' ') { Some(end) } else { rest[..end].rfind(' ').filter(|at| *at > 0) };
            lines.push(Self(rest[..at.unwrap_or(end)].to_owned()));
            rest = rest[at.unwrap_or(end)..].trim_start_matches(' ');
        }
        lines.push(Self(rest.to_owned()));
        lines
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(visible(text).into_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        match visible(&text) {
            Cow::Borrowed(_) => Self(text),
            Cow::Owned(shown) => Self(shown),
        }
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl<T: Into<Self>> Add<T> for Text {
    type Output = Self;

    fn add(mut self, other: T) -> Self {
        self += other;
        self
    }
}

impl<T: Into<Self>> AddAssign<T> for Text {
    fn add_assign(&mut self, other: T) {
        self.0.push_str(&other.into().0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_added_after_what_others_wrote_was_made_visible() {
        let hostile = "x\u{1b}[2K";
        let text = Style::Bad.paint(hostile, true) + " " + Text::line("a\nb") + hostile;
        assert_eq!(text.as_safe(), "\u{1b}[31mx\\u{1b}[2K\u{1b}[0m a\\nbx\\u{1b}[2K");
        assert_eq!(Style::Bad.paint("x", false).as_safe(), "x");
        assert_eq!(Text::from("abc").cut(2).as_safe(), "ab");
        assert_eq!(Text::from("abc").shortened(2).as_safe(), "a…");
        let lines = |width| Text::from("one two three").wrapped(width).into_iter().map(|line| line.0).collect::<Vec<_>>();
        assert_eq!((lines(7), lines(80)), (vec!["one two".into(), "three".into()], vec!["one two three".into()]));
        assert_eq!(lines(4), ["one", "two", "thre", "e"]);
    }
}
