//! What an operation was doing when it failed.

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an operation was doing when it failed.
        ///
        /// The number goes through the shared page; [`Step::from_number`] refuses others.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Step {
            $($(#[$doc])* $name,)*
        }

        impl Step {
            /// All, in the order of their numbers.
            const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

steps! {
    /// The operation's one system call.
    Whole,
    /// Decoding the plan.
    Decode,
    /// Opening the source of a bind mount.
    OpenSource,
    /// Having the creator open the source of a bind mount, or the root.
    AskForSource,
    /// Looking a path up in the container's root.
    OpenTarget,
    /// Creating a mountpoint or a parent directory.
    CreateTarget,
    /// fsopen(2).
    OpenFilesystem,
    /// An option of the filesystem; the detail names it.
    SetOption,
    /// Creating the filesystem's instance.
    CreateFilesystem,
    /// fsmount(2) or open_tree(2).
    CreateMount,
    /// mount_setattr(2) of attributes.
    SetAttributes,
    /// mount_setattr(2) of id maps.
    MapIds,
    /// mount_setattr(2) of propagation.
    SetPropagation,
    /// move_mount(2).
    Attach,
    /// Copying a directory's content into a tmpfs.
    CopyUp,
    /// The procfs handle.
    OpenProcfs,
    /// The host's procfs: opening it, or it is none.
    HostProcfs,
    /// Opening a file for writing.
    Open,
    /// Writing it.
    Write,
    /// An object that is there is not what it must be.
    WrongObject,
    /// The group.
    SetGroup,
    /// Reading the id maps of the user namespace.
    ReadMaps,
    /// The id maps are others than those of config.json.
    OtherMaps,
    /// Changing an owner.
    Chown,
    /// Changing a mode.
    Chmod,
    /// fork, pipe or memfd for a hook.
    Spawn,
    /// The hook's execve.
    ExecHook,
    /// The hook's exit status; errno holds it.
    HookStatus,
    /// The hook was killed by a signal; errno holds it.
    HookSignal,
    /// The hook ran past its timeout; errno holds it in seconds.
    HookTimeout,
    /// Opening `/dev/ptmx` of the container.
    OpenPty,
    /// Settings of the pty.
    SetPty,
    /// Sending the pty to the console socket.
    SendPty,
    /// Mounting `/dev/console`.
    MountConsole,
    /// chdir(2).
    Chdir,
    /// The working directory is outside of the root.
    CwdOutside,
    /// The program was not found in `PATH`.
    NotInPath,
    /// The program's file cannot be executed.
    Stat,
    /// The program is a directory.
    IsDirectory,
    /// The program may not be executed.
    NotExecutable,
    /// execve(2).
    Execve,
    /// clone(2) into the joined pid namespace.
    Clone,
    /// Handing the filter's listener over.
    Listener,
    /// The creator is gone.
    CreatorGone,
    /// Out of the init's fixed buffers.
    TooLong,
}

impl Step {
    /// The step of a number that came from the init.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_comes_back_from_its_number() {
        for (number, step) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, number);
            assert_eq!(Step::from_number(u32::try_from(number).unwrap()), Some(*step));
        }
        assert_eq!(Step::from_number(u32::try_from(Step::ALL.len()).unwrap()), None);
    }
}
