//! `mounts[].options`: the one table of what Orlop knows. What is not in it goes to the filesystem.

use orlop_init::plan::{Attributes, propagation};

use self::Effect::*;

/// `MOUNT_ATTR_*` of mount_setattr(2), <linux/mount.h>.
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    /// The mask of the access time's three kinds; `RELATIME` is 0.
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const NOSYMFOLLOW: u64 = 0x0020_0000;
    /// Those that a bind mount with any flag given gets exactly.
    pub(super) const ACCESS: u64 = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW;
}

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// What happens anyway.
    Default,
    /// A bind mount.
    Bind,
    /// A bind mount with what is mounted below.
    BindTree,
    /// Changes a mount that is there.
    Remount,
    /// `tmpcopyup`.
    CopyUp,
    /// The mount's ids are mapped, or the tree's. Not printed by `features`: callers ask for it
    /// elsewhere.
    IdMap(bool),
    /// Sets an attribute of the mount.
    Set(u64),
    /// Clears it.
    Clear(u64),
    /// One of the kinds of access time.
    Atime(u64),
    /// Any kind but this one.
    NotAtime(u64),
    /// Sets an attribute of the whole tree.
    SetTree(u64),
    /// Clears it.
    ClearTree(u64),
    /// The access time of the whole tree.
    AtimeTree(u64),
    /// Changes the propagation.
    Propagation(u8),
    /// A flag of the filesystem, under its name for fsconfig(2).
    Super(&'static str),
    /// Takes that flag back.
    NotSuper(&'static str),
    /// Nothing: fsconfig(2) has no such flag, and it only quiets the kernel's log.
    Silent,
}

const REC: u8 = propagation::RECURSIVE;

/// Every option known by name, sorted.
const TABLE: &[(&str, Effect)] = &[
    ("async", NotSuper("sync")),
    ("atime", NotAtime(attr::NOATIME)),
    ("bind", Bind),
    ("defaults", Default),
    ("dev", Clear(attr::NODEV)),
    ("diratime", Clear(attr::NODIRATIME)),
    ("dirsync", Super("dirsync")),
    ("exec", Clear(attr::NOEXEC)),
    ("idmap", IdMap(false)),
    ("iversion", Super("iversion")),
    ("lazytime", Super("lazytime")),
    ("loud", Default),
    ("mand", Super("mand")),
    ("noatime", Atime(attr::NOATIME)),
    ("nodev", Set(attr::NODEV)),
    ("nodiratime", Set(attr::NODIRATIME)),
    ("noexec", Set(attr::NOEXEC)),
    ("noiversion", NotSuper("iversion")),
    ("nolazytime", NotSuper("lazytime")),
    ("nomand", NotSuper("mand")),
    ("norelatime", NotAtime(0)),
    ("nostrictatime", NotAtime(attr::STRICTATIME)),
    ("nosuid", Set(attr::NOSUID)),
    ("nosymfollow", Set(attr::NOSYMFOLLOW)),
    ("private", Propagation(propagation::PRIVATE)),
    ("ratime", AtimeTree(0)),
    ("rbind", BindTree),
    ("rdev", ClearTree(attr::NODEV)),
    ("rdiratime", ClearTree(attr::NODIRATIME)),
    ("relatime", Atime(0)),
    ("remount", Remount),
    ("rexec", ClearTree(attr::NOEXEC)),
    ("ridmap", IdMap(true)),
    ("rnoatime", AtimeTree(attr::NOATIME)),
    ("rnodev", SetTree(attr::NODEV)),
    ("rnodiratime", SetTree(attr::NODIRATIME)),
    ("rnoexec", SetTree(attr::NOEXEC)),
    ("rnorelatime", AtimeTree(attr::STRICTATIME)),
    ("rnostrictatime", AtimeTree(0)),
    ("rnosuid", SetTree(attr::NOSUID)),
    ("rnosymfollow", SetTree(attr::NOSYMFOLLOW)),
    ("ro", Set(attr::RDONLY)),
    ("rprivate", Propagation(propagation::PRIVATE | REC)),
    ("rrelatime", AtimeTree(0)),
    ("rro", SetTree(attr::RDONLY)),
    ("rrw", ClearTree(attr::RDONLY)),
    ("rshared", Propagation(propagation::SHARED | REC)),
    ("rslave", Propagation(propagation::SLAVE | REC)),
    ("rstrictatime", AtimeTree(attr::STRICTATIME)),
    ("rsuid", ClearTree(attr::NOSUID)),
    ("rsymfollow", ClearTree(attr::NOSYMFOLLOW)),
    ("runbindable", Propagation(propagation::UNBINDABLE | REC)),
    ("rw", Clear(attr::RDONLY)),
    ("shared", Propagation(propagation::SHARED)),
    ("silent", Silent),
    ("slave", Propagation(propagation::SLAVE)),
    ("strictatime", Atime(attr::STRICTATIME)),
    ("suid", Clear(attr::NOSUID)),
    ("symfollow", Clear(attr::NOSYMFOLLOW)),
    ("sync", Super("sync")),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(propagation::UNBINDABLE)),
];

/// The options that Orlop knows by name, sorted, for `features`.
pub(crate) fn mount_options() -> impl Iterator<Item = &'static str> {
    let shown = TABLE.iter().filter(|(_, effect)| !matches!(effect, IdMap(_)));
    shown.map(|(name, _)| *name)
}

fn find(name: &str) -> Option<Effect> {
    let at = TABLE.binary_search_by_key(&name, |(name, _)| name).ok()?;
    TABLE.get(at).map(|(_, effect)| *effect)
}

/// The change that a word like `rslave` names.
pub(super) fn propagation_of(name: &str) -> Option<u8> {
    match find(name) {
        Some(Propagation(change)) => Some(change),
        _ => None,
    }
}

/// The word of a change of propagation.
pub(crate) fn propagation_name(change: u8) -> &'static str {
    let named = TABLE.iter().find(|(_, effect)| *effect == Propagation(change));
    named.map_or("unknown", |(name, _)| name)
}

/// Whether a mount is a bind mount.
pub(super) fn is_bind(mount: &oci_spec::runtime::Mount) -> bool {
    Options::read(mount.options().as_deref().unwrap_or_default(), false).bind.is_some()
}

/// The options of a filesystem in one string, which the kernel parts at commas. Not at those of a
/// label in quotes, nor, where the filesystem knows escapes (an overlay's paths), at one behind
/// a backslash.
fn pieces(text: &str, escapes: bool) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    let part = move |(at, byte): (usize, u8)| {
        let piece = text.get(start..at).unwrap_or_default();
        quoted ^= byte == b'"' && is_label(piece);
        let ends = at == text.len() || byte == b',' && !quoted && !escaped;
        escaped = escapes && byte == b'\\' && !escaped;
        ends.then(|| {
            start = at + 1;
            piece
        })
    };
    let end = std::iter::once((text.len(), b','));
    text.bytes().enumerate().chain(end).filter_map(part).filter(|piece| !piece.is_empty())
}

/// `context=`, `rootcontext=` and the like.
fn is_label(option: &str) -> bool {
    option.split('=').next().is_some_and(|key| key.ends_with("context"))
}

/// The options of one mount.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    /// `bind` (false) or `rbind` (true).
    pub(super) bind: Option<bool>,
    pub(super) remount: bool,
    pub(super) copy_up: bool,
    /// The index of `idmap` (false) or `ridmap` (true).
    pub(super) idmap: Option<(usize, bool)>,
    /// The index of `silent`.
    pub(super) silent: Option<usize>,
    /// Any option that sets or clears an attribute of the mount was given.
    flags_given: bool,
    set: u64,
    /// Attributes that an option names for not being set.
    cleared: u64,
    atime: Option<u64>,
    tree: Attributes,
    /// Changes of propagation, in order.
    pub(super) propagation: Vec<u8>,
    /// Flags of the filesystem.
    pub(super) flags: Vec<&'static str>,
    /// What the filesystem itself knows.
    pub(super) data: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Reads the options in order; a later one overrides an earlier one. `escapes`: see [`pieces`].
    pub(super) fn read(list: &'a [String], escapes: bool) -> Self {
        let mut options = Self::default();
        for (index, text) in list.iter().enumerate() {
            match find(text) {
                Some(effect) => options.apply(effect, index),
                None => options.data.extend(pieces(text, escapes)),
            }
        }
        options
    }

    fn apply(&mut self, effect: Effect, index: usize) {
        match effect {
            Default => {}
            Bind => self.bind = Some(self.bind.unwrap_or(false)),
            BindTree => self.bind = Some(true),
            Remount => self.remount = true,
            CopyUp => self.copy_up = true,
            IdMap(tree) => self.idmap = Some((index, tree)),
            Silent => self.silent = Some(index),
            Propagation(change) => self.propagation.push(change),
            Super(name) => {
                self.flags.retain(|other| *other != name);
                self.flags.push(name);
            }
            NotSuper(name) => self.flags.retain(|other| *other != name),
            SetTree(bits) => {
                self.tree.set |= bits;
                self.tree.clear &= !bits;
            }
            ClearTree(bits) => {
                self.tree.clear |= bits;
                self.tree.set &= !bits;
            }
            AtimeTree(kind) => {
                // The kernel takes the field as a whole: all of it is cleared, or none.
                self.tree.clear |= attr::ATIME;
                self.tree.set = self.tree.set & !attr::ATIME | kind;
            }
            Set(_) | Clear(_) | Atime(_) | NotAtime(_) => self.apply_flag(effect),
        }
    }

    fn apply_flag(&mut self, effect: Effect) {
        self.flags_given = true;
        match effect {
            Set(bits) => {
                self.set |= bits;
                self.cleared &= !bits;
            }
            Clear(bits) => {
                self.set &= !bits;
                self.cleared |= bits;
            }
            Atime(kind) => self.atime = Some(kind),
            NotAtime(kind) => self.atime = self.atime.filter(|other| *other != kind),
            _ => {}
        }
    }

    /// The attributes of a new filesystem's mount. It has no mounts below: what is meant for the
    /// tree is for the mount.
    pub(super) fn of_new_mount(&self) -> u64 {
        let own = self.set | self.atime.unwrap_or(0);
        own & !self.tree.clear | self.tree.set
    }

    /// The change of a mount that inherits attributes. Without any option it keeps them; with any
    /// it gets exactly those given, as callers of runc know it; the access time stays as it is
    /// unless named.
    pub(super) fn of_bind(&self) -> Attributes {
        if !self.flags_given {
            return Attributes::default();
        }
        let clear = attr::ACCESS & !self.set;
        let yielding = clear & !self.cleared;
        let mut change = Attributes { set: self.set, clear, yielding };
        let names_atime = self.atime.is_some() || self.set & attr::NODIRATIME != 0;
        if names_atime {
            change.set |= self.atime.unwrap_or(0);
            change.clear |= attr::ATIME | attr::NODIRATIME & !self.set;
        }
        change
    }

    pub(super) fn of_tree(&self) -> Attributes {
        self.tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What runc 1.5 prints, which callers test features against.
    const RUNC: &str = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud \
        mand noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime \
        nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodev \
        rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro \
        rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave \
        strictatime suid symfollow sync tmpcopyup unbindable";

    fn read(list: &[&str]) -> Attributes {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        Options::read(&list, false).of_bind()
    }

    #[test]
    fn the_table_is_sorted_and_has_runcs_options() {
        assert!(TABLE.is_sorted_by_key(|(name, _)| name));
        assert_eq!(
            mount_options().collect::<Vec<_>>(),
            RUNC.split_whitespace().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_bind_mount_without_flags_inherits() {
        assert!(read(&["rbind", "rprivate", "defaults"]).is_empty());
    }

    #[test]
    fn a_bind_mount_with_a_flag_gets_exactly_the_flags() {
        let change = read(&["bind", "ro", "nosuid"]);
        assert_eq!(change.set, attr::RDONLY | attr::NOSUID);
        assert_eq!(change.clear, attr::NODEV | attr::NOEXEC | attr::NOSYMFOLLOW);
        let change = read(&["bind", "ro", "rw"]);
        assert_eq!((change.set, change.clear), (0, attr::ACCESS));
        assert_eq!(change.yielding, attr::ACCESS & !attr::RDONLY);
    }

    #[test]
    fn the_access_time_changes_as_a_whole() {
        let change = read(&["bind", "noatime", "strictatime"]);
        assert_eq!(change.set, attr::STRICTATIME);
        assert_eq!(change.clear & attr::ATIME, attr::ATIME);
        let list = ["rbind".to_owned(), "rnoatime".to_owned(), "rro".to_owned()];
        let tree = Options::read(&list, false).of_tree();
        let set = attr::NOATIME | attr::RDONLY;
        assert_eq!(tree, Attributes { set, clear: attr::ATIME, yielding: 0 });
    }
    #[test]
    fn options_in_one_string_are_parted_as_the_kernel_does() {
        let parted = |text, escapes| pieces(text, escapes).collect::<Vec<_>>();
        assert_eq!(parted("", false), [""; 0]);
        assert_eq!(parted(",size=1k,,ro,", false), ["size=1k", "ro"]);
        let overlay = r"lowerdir=/a\,b:/c\\,upperdir=/d";
        assert_eq!(parted(overlay, true), [r"lowerdir=/a\,b:/c\\", "upperdir=/d"]);
        assert_eq!(parted(overlay, false), [r"lowerdir=/a\", r"b:/c\\", "upperdir=/d"]);
        let labelled = "rootcontext=\"u:r:t:s0:c1,c2\",x=\"1,2\"";
        assert_eq!(parted(labelled, false), ["rootcontext=\"u:r:t:s0:c1,c2\"", "x=\"1", "2\""]);
        assert_eq!(parted("context=\"a,b", false), ["context=\"a,b"], "a quote that nobody closes");
    }
}
