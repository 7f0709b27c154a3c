//! Git's protocol over HTTP (gitprotocol-http, "smart" clients).

use super::line::{self, Version};
use crate::fetch::http::{self, Retries};
use crate::model::{Context, Error, Result};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;
use tokio::runtime::Runtime;

const REFS: &str = "/info/refs?service=git-upload-pack";

/// A repository on an HTTP server.
pub struct Line {
    runtime: Rc<Runtime>,
    client: reqwest::Client,
    base: String,
    shown: String,
    /// The response that is being read.
    body: Body,
}

impl Line {
    /// Connects to a repository on a server.
    ///
    /// # Errors
    /// Fails when the server cannot be reached, or has no such repository.
    pub fn open(address: &str, shown: &str) -> Result<Self> {
        let asked = Url::parse(address).context(|| format!("\"{shown}\" is not a URL"))?;
        let client = http::client(|begun| {
            // Servers recognise git clients by this prefix.
            let name = concat!("git/2.0 (stead ", env!("CARGO_PKG_VERSION"), ")");
            begun.user_agent(name).https_only(asked.scheme() == "https").read_timeout(Duration::from_secs(60))
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = Rc::new(runtime.context(|| "cannot start the network runtime".into())?);

        let mut base = asked.as_str().trim_end_matches('/').to_owned();
        let answer = send(&runtime, client.get(format!("{base}{REFS}")), Version::Second, shown)?;
        // After a redirect, further requests go to the new address; but the password is not sent to another host.
        let mut found = answer.url().clone();
        if found.origin() == asked.origin() {
            // Neither can fail, because the address has a host.
            let _ = found.set_username(asked.username());
            let _ = found.set_password(asked.password());
        }
        if let Some(found) = found.as_str().strip_suffix(REFS) {
            found.clone_into(&mut base);
        }
        let kind = answer.headers().get("content-type").map(|kind| kind.as_bytes().to_vec()).unwrap_or_default();
        if kind != b"application/x-git-upload-pack-advertisement" {
            return Err(Error::new(format!("{shown} is not a git repository, or its server does not support smart HTTP")));
        }
        let body = Body { runtime: Rc::clone(&runtime), answer, rest: VecDeque::new() };
        Ok(Self { runtime, client, base, shown: shown.to_owned(), body })
    }
}

impl line::Line for Line {
    fn greeting(&mut self) -> Result<&mut dyn Read> {
        Ok(&mut self.body)
    }

    fn ask(&mut self, request: &str, version: Version) -> Result<&mut dyn Read> {
        let post = self.client.post(format!("{}/git-upload-pack", self.base));
        let post = post.header("content-type", "application/x-git-upload-pack-request");
        let post = post.header("accept", "application/x-git-upload-pack-result").body(request.to_owned());
        let answer = send(&self.runtime, post, version, &self.shown)?;
        self.body = Body { runtime: Rc::clone(&self.runtime), answer, rest: VecDeque::new() };
        Ok(&mut self.body)
    }
}

fn send(runtime: &Runtime, request: RequestBuilder, version: Version, shown: &str) -> Result<Response> {
    let request = if version == Version::Second { request.header("git-protocol", "version=2") } else { request };
    // The request must be sent inside the runtime, because its timeouts need the runtime's clock.
    runtime.block_on(async {
        let mut retries = Retries::new();
        loop {
            let again = request.try_clone().ok_or_else(|| Error::new("a request cannot be made again"))?;
            let (error, wait) = match again.send().await {
                Ok(answer) if answer.status() == StatusCode::OK => return Ok(answer),
                Ok(answer) => {
                    let error = Error::new(format!("{shown} answers {}", answer.status()));
                    match answer.status().as_u16() {
                        401 | 403 | 404 => return Err(error.hint(
                            "no such repository, or one that needs a name and a password in its URL: https://NAME:TOKEN@HOST/…",
                        )),
                        _ if http::is_passing(answer.status()) => (error, http::retry_after(answer.headers())),
                        _ => return Err(error),
                    }
                }
                Err(error) => (http::unreachable(shown, error), None),
            };
            retries.again(error, wait).await?;
        }
    })
}

/// A response's body, read as it arrives.
struct Body {
    runtime: Rc<Runtime>,
    answer: Response,
    rest: VecDeque<u8>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.answer.chunk()).map_err(|error| io::Error::other(error.without_url()))? {
                Some(chunk) => self.rest.extend(&chunk[..]),
                None => return Ok(0),
            }
        }
        self.rest.read(buffer)
    }
}
