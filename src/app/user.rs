//! Gives up root: the container image starts as root so that an empty bind mount, which belongs to
//! root, can be handed over, and goes on as an ordinary user.
//! Invariant: called before any thread or socket exists; identities are per thread in Linux, and
//! threads made later inherit this one's.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

/// Who the server becomes when root started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// User id; not 0.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why root could not be given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunAsError {
    #[error("cannot create the data directory {path:?}: {source}")]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot become user {uid}: {source}; start it as that user instead (docker run --user {uid}:{gid})")]
    Become { uid: u32, gid: u32, source: io::Error },
}

/// Hands the data directory over and becomes `user`; does nothing unless root started us.
///
/// # Errors
/// [`RunAsError`].
pub(super) fn give_up_root(user: RunAs, data_dir: &Path) -> Result<(), RunAsError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let create = |source| RunAsError::Create { path: data_dir.to_owned(), source };
    fs::create_dir_all(data_dir).map_err(create)?;
    // Some file systems know no owners (shared folders of a virtual machine). Whether the new user
    // can write is seen when the directory is taken, with an error that says what to do.
    let _ = hand_over(data_dir, user);
    become_user(user).map_err(|error| RunAsError::Become { uid: user.uid, gid: user.gid, source: error.into() })
}

/// Changes the owner of a directory and all in it, unless the directory is the user's already.
/// Symbolic links are not followed.
fn hand_over(path: &Path, user: RunAs) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.uid() == user.uid {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), user)?;
        }
    }
    // Last, so that a hand-over that was cut short begins again.
    lchown(path, Some(user.uid), Some(user.gid))
}

fn become_user(user: RunAs) -> rustix::io::Result<()> {
    let gid = Gid::from_raw(user.gid);
    set_thread_groups(&[])?;
    set_thread_gid(gid)?;
    set_thread_uid(Uid::from_raw(user.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_handed_over_with_all_in_it_but_not_what_links_point_to() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("wal")).unwrap();
        fs::write(data.join("wal/1"), "x").unwrap();
        fs::write(folder.path().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside"), data.join("link")).unwrap();
        hand_over(&data, RunAs { uid: 10_001, gid: 10_001 }).unwrap();
        let owner = |path: PathBuf| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!([owner(data.join("wal/1")), owner(data.join("link")), owner(data)], [10_001; 3]);
        assert_eq!(owner(folder.path().join("outside")), 0);
    }
}
