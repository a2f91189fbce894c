//! Which calls of a simulated disk fail, and how: the n-th of a kind, once or from then on, or each
//! with a chance. Seeded, so that what has failed fails again.

use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Opening a file to read.
    Open,
    /// Reading from a file.
    Read,
    /// What lies in a folder.
    List,
    /// What a file or folder is.
    Metadata,
    /// How much room there is.
    Space,
    /// Making a folder.
    CreateDir,
    /// Opening a file to append to.
    Create,
    /// Appending.
    Write,
    /// Cutting a file.
    Truncate,
    /// Waiting for a file to be on the medium.
    Sync,
    /// Renaming.
    Rename,
    /// Giving a second name.
    Link,
    /// Removing a file.
    Remove,
    /// Removing a folder.
    RemoveDir,
    /// Waiting for names to be on the medium.
    SyncDir,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Open,
        Self::Read,
        Self::List,
        Self::Metadata,
        Self::Space,
        Self::CreateDir,
        Self::Create,
        Self::Write,
        Self::Truncate,
        Self::Sync,
        Self::Rename,
        Self::Link,
        Self::Remove,
        Self::RemoveDir,
        Self::SyncDir,
    ];

    /// What the system may say of it.
    pub fn errors(self) -> &'static [Errno] {
        match self {
            Self::Read | Self::Metadata => &[Errno::IO, Errno::NOMEM],
            Self::Open | Self::List => &[Errno::IO, Errno::NOMEM, Errno::MFILE, Errno::NFILE],
            Self::Space | Self::Truncate | Self::RemoveDir => &[Errno::IO],
            Self::Write | Self::Sync => &[Errno::IO, Errno::NOSPC, Errno::DQUOT],
            Self::Create => &[Errno::IO, Errno::NOMEM, Errno::MFILE, Errno::NOSPC],
            Self::CreateDir | Self::Rename | Self::Link | Self::Remove => &[Errno::IO, Errno::NOSPC, Errno::NOMEM],
            Self::SyncDir => &[Errno::IO, Errno::MFILE],
        }
    }
}

/// A call that is to fail.
#[derive(Clone, Debug)]
pub struct Fault {
    op: Op,
    error: Errno,
    after: u64,
    for_ever: bool,
    within: Option<String>,
}

impl Fault {
    /// The next call of `op` fails with `error`.
    pub fn new(op: Op, error: Errno) -> Self {
        Self { op, error, after: 0, for_ever: false, within: None }
    }

    /// It fails after so many that succeed.
    pub fn after(self, calls: u64) -> Self {
        Self { after: calls, ..self }
    }

    /// All that follow fail, too.
    pub fn for_ever(self) -> Self {
        Self { for_ever: true, ..self }
    }

    /// Only calls on a path that contains `text` count.
    pub fn within(self, text: &str) -> Self {
        Self { within: Some(text.to_owned()), ..self }
    }
}

/// The calls that are to fail.
#[derive(Default)]
pub struct Faults {
    planned: Vec<Fault>,
    /// Of all calls, whatever their kind, the one after so many fails, and those that follow or not.
    any: Option<(u64, bool)>,
    /// One call in so many fails; 0 is none.
    one_in: u64,
    calls: u64,
    random: u64,
    met: u64,
}

impl Faults {
    /// None yet; `seed` decides about those that come by chance.
    pub fn new(seed: u64) -> Self {
        Self { random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, ..Self::default() }
    }

    /// Plans one.
    pub fn add(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    /// After so many calls of any kind one fails, or all that follow.
    pub fn any_after(&mut self, calls: u64, for_ever: bool) {
        self.any = Some((calls, for_ever));
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// From now on one call in `one_in` fails, by chance.
    pub fn by_chance(&mut self, one_in: u64) {
        self.one_in = one_in;
    }

    /// Nothing fails any more.
    pub fn heal(&mut self) {
        (self.planned, self.any, self.one_in) = (Vec::new(), None, 0);
    }

    /// How many calls have failed.
    pub fn met(&self) -> u64 {
        self.met
    }

    /// Whether a call fails.
    pub fn meet(&mut self, op: Op, path: &Path) -> io::Result<()> {
        self.calls += 1;
        let mut error = None;
        self.planned.retain_mut(|fault| {
            let concerns = fault.op == op
                && fault.within.as_ref().is_none_or(|text| path.to_string_lossy().contains(text.as_str()));
            if !concerns || error.is_some() {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            error = Some(fault.error);
            fault.for_ever
        });
        let mut chance = false;
        match &mut self.any {
            Some((0, for_ever)) => {
                chance = true;
                if !*for_ever {
                    self.any = None;
                }
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        if error.is_none() && (chance || self.one_in > 0 && self.below(self.one_in) == 0) {
            let at = self.below(op.errors().len() as u64);
            error = usize::try_from(at).ok().and_then(|at| op.errors().get(at)).copied();
        }
        match error {
            Some(error) => {
                self.met += 1;
                Err(error.into())
            }
            None => Ok(()),
        }
    }

    /// A random number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16).checked_rem(bound).unwrap_or(0)
    }
}
