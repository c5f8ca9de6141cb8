//! The Unix socket on which a proxy of this host connects.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::error::ServeError;
use crate::settings::ProxySocket;

/// A socket that is listened on; its file is removed at the end.
#[derive(Debug)]
pub(super) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Which file it is: another gateway may have replaced it meanwhile.
    inode: Option<u64>,
}

impl UnixSocket {
    /// Makes the socket. What a gateway has left behind that did not end orderly is removed; a socket
    /// that a process listens on is not.
    pub(super) fn bind(settings: &ProxySocket) -> Result<Self, ServeError> {
        let path = settings.path.clone();
        if is_in_use(&path) {
            return Err(ServeError::SocketInUse(path));
        }
        match listen(settings) {
            Ok(listener) => {
                tracing::info!(role = "proxy", path = %path.display(), "listening");
                let inode = fs::symlink_metadata(&path).ok();
                Ok(Self {
                    listener,
                    inode: inode.map(|metadata| metadata.ino()),
                    path,
                })
            }
            Err(source) => Err(ServeError::Socket { path, source }),
        }
    }

    /// The next connection, and the user at its other end, as the system says (`SO_PEERCRED`).
    pub(super) async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        Ok((stream, user))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).ok();
        if found.is_some_and(|metadata| Some(metadata.ino()) == self.inode) {
            // Where this fails, the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_in_use(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// Anyone who connects before the mode is set is still checked by user.
fn listen(settings: &ProxySocket) -> io::Result<UnixListener> {
    let path = &settings.path;
    if let Ok(found) = fs::symlink_metadata(path)
        && found.file_type().is_socket()
    {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(settings.mode))?;
    Ok(listener)
}
