//! Which redirects are followed: only a few, and never from HTTPS to HTTP for content without a known digest.

use crate::model::bounds::fetch::REDIRECTS;
use reqwest::Url;
use reqwest::redirect::Policy;

/// Whether the content is verified by a digest that was known before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    Known,
    Unknown,
}

/// The redirect policy for a client.
pub fn policy(content: Content) -> Policy {
    Policy::custom(move |attempt| match refusal(content, attempt.previous(), attempt.url()) {
        None => attempt.follow(),
        Some(why) => attempt.error(why),
    })
}

/// Why a redirect is not followed, if it is not.
fn refusal(content: Content, previous: &[Url], next: &Url) -> Option<String> {
    if previous.len() > REDIRECTS {
        return Some(format!("it was redirected more than {REDIRECTS} times"));
    }
    let leaves = next.scheme() != "https" && previous.iter().any(|url| url.scheme() == "https");
    (content == Content::Unknown && leaves).then(|| {
        let (host, scheme) = (next.host_str().unwrap_or_default(), next.scheme());
        format!("it redirects from https to {scheme}://{host}, where anybody on the way could change the file, and there is no known digest to detect that")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_is_not_left_for_what_is_unknown() {
        let urls = |texts: &[&str]| texts.iter().map(|text| Url::parse(text).unwrap()).collect::<Vec<_>>();
        let refused = |content, previous: &[&str], next: &str| refusal(content, &urls(previous), &urls(&[next])[0]);
        assert!(refused(Content::Unknown, &["https://a/x"], "http://a/x").unwrap().contains("https"));
        // A detour does not help.
        assert!(refused(Content::Unknown, &["http://a/x", "https://a/x", "http://b/x"], "http://c/x").is_some());
        assert_eq!(refused(Content::Unknown, &["https://a/x"], "https://b/y"), None);
        assert_eq!(refused(Content::Unknown, &["http://a/x"], "https://a/x"), None);
        assert_eq!(refused(Content::Known, &["https://a/x"], "http://a/x"), None);
        for content in [Content::Known, Content::Unknown] {
            assert_eq!(refused(content, &["http://a/x"; REDIRECTS], "http://a/y"), None);
            assert!(refused(content, &["http://a/x"; REDIRECTS + 1], "http://a/y").unwrap().contains("more than 10"));
        }
    }
}
