//! The network thread: it handles many streams at once, while other threads wait, hash and unpack.

use crate::fetch;
use crate::model::{Error, Result};
use std::future::Future;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A thread with a network runtime; the thread ends when this is dropped.
pub struct Wire {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails when the kernel does not give the runtime its file descriptors.
    pub fn start() -> Result<Self> {
        let runtime = fetch::runtime()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(ended);
        });
        Ok(Self { handle, end: Some(end), thread: Some(thread) })
    }

    /// Runs a future on the thread and waits for its result.
    ///
    /// # Errors
    /// Fails when the future fails or the thread has ended.
    pub fn wait<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let (sender, receiver) = channel();
        self.begin(async move {
            let _ = sender.send(work.await);
        });
        receiver.recv().map_err(|_| Error::new("the network thread ended"))?
    }

    /// Starts a future on the thread.
    pub fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.end.take().map(|end| end.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
