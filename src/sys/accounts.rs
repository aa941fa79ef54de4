//! Users and groups, from /etc/passwd and /etc/group alone.
//!
//! Not through the C library: its name services load shared objects, speak to daemons and to
//! the network, and may wait for a service that is only about to be started.

use super::SysError;
use super::spawn::RunAs;

/// Where users are looked up.
pub const PASSWD: &str = "/etc/passwd";
/// Where groups are looked up.
pub const GROUP: &str = "/etc/group";

/// A user, as passwd(5) has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name to log in with.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// Its home directory.
    pub home: String,
    /// Its shell; /bin/sh where the entry has none.
    pub shell: String,
}

/// Whom to run as: numbers for the kernel, and the user's entry, if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The numbers.
    pub run_as: RunAs,
    /// The entry in /etc/passwd.
    pub user: Option<User>,
}

/// Looks up a user and a group, each a name or a number, in the text of the two files. Names go
/// first: a user may be called `1000`.
///
/// # Errors
/// When there is no such user or group, or a number without an entry leaves the group open.
pub fn find(
    passwd: &str,
    groups: &str,
    user: Option<&str>,
    group: Option<&str>,
) -> Result<Account, SysError> {
    let gid = match group {
        Some(group) => Some(find_group(groups, group)?),
        None => None,
    };
    let Some(wanted) = user else {
        let run_as = RunAs {
            gid,
            ..RunAs::default()
        };
        return Ok(Account { run_as, user: None });
    };
    let entry = |matches: &dyn Fn(&User) -> bool| users(passwd).find(|user| matches(user));
    let number = id(wanted);
    let found = entry(&|user| user.name == wanted)
        .or_else(|| number.and_then(|uid| entry(&|user| user.uid == uid)));
    let (uid, gid, own) = match (&found, number, gid) {
        (Some(user), _, gid) => (user.uid, gid.unwrap_or(user.gid), memberships(groups, user)),
        (None, Some(uid), Some(gid)) => (uid, gid, Vec::new()),
        (None, Some(_), None) => {
            let why = "/etc/passwd has no entry that would say which group is its own: \
                       give `group`, too (`nought run --user USER:GROUP`)";
            return Err(SysError::because(
                "find the group of",
                format!("user {wanted}"),
                why,
            ));
        }
        (None, None, _) => {
            let why = "no such user in /etc/passwd, and nothing else is asked; a number will do, \
                       together with `group`";
            return Err(SysError::because("find", format!("user {wanted}"), why));
        }
    };
    let mut all = own;
    all.push(gid);
    all.sort_unstable();
    all.dedup();
    Ok(Account {
        run_as: RunAs {
            uid: Some(uid),
            gid: Some(gid),
            groups: Some(all),
        },
        user: found,
    })
}

/// Every entry of passwd(5) that is whole; others are passed over, as the C library does.
fn users(passwd: &str) -> impl Iterator<Item = User> + '_ {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let uid = fields.next().and_then(id)?;
        let gid = fields.next().and_then(id)?;
        let _comment = fields.next()?;
        let home = fields.next()?;
        let shell = fields.next().filter(|shell| !shell.is_empty());
        Some(User {
            name: name.to_owned(),
            uid,
            gid,
            home: home.to_owned(),
            shell: shell.unwrap_or("/bin/sh").to_owned(),
        })
    })
}

/// A number, but for the last one: to setresuid(2) that means 'no change', so that whoever has it
/// would stay who we are.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Every entry of group(5): name, number, members.
fn entries(groups: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let _password = fields.next()?;
        let gid = fields.next().and_then(id)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn find_group(groups: &str, wanted: &str) -> Result<u32, SysError> {
    let named = entries(groups).find(|(name, ..)| *name == wanted);
    let number = || id(wanted);
    named.map(|(_, gid, _)| gid).or_else(number).ok_or_else(|| {
        let why = "no such group in /etc/group, and nothing else is asked; a number will do";
        SysError::because("find", format!("group {wanted}"), why)
    })
}

/// The groups that list the user as a member (initgroups(3)).
fn memberships(groups: &str, user: &User) -> Vec<u32> {
    let listed = entries(groups)
        .filter(|(.., members)| members.split(',').any(|member| member.trim() == user.name));
    listed.map(|(_, gid, _)| gid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\n+\nbroken:x:no:1::/:\n\
        web:x:33:33:www:/var/www:/usr/sbin/nologin\n1000:x:77:78::/home/odd:\n\
        alice:x:1000:1001:,,,:/home/alice:/bin/zsh\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nadm:x:4:web,alice\nssl:x:110: web\nalice:x:1001:\n";

    fn found(user: Option<&str>, group: Option<&str>) -> (Option<u32>, Option<u32>, Vec<u32>) {
        let run_as = find(PASSWD, GROUP, user, group).unwrap().run_as;
        (run_as.uid, run_as.gid, run_as.groups.unwrap_or_default())
    }

    #[test]
    fn a_user_brings_its_groups() {
        assert_eq!(
            found(Some("web"), None),
            (Some(33), Some(33), vec![4, 33, 110])
        );
        assert_eq!(
            found(Some("33"), None),
            (Some(33), Some(33), vec![4, 33, 110])
        );
        assert_eq!(
            found(Some("web"), Some("root")),
            (Some(33), Some(0), vec![0, 4, 110])
        );
        assert_eq!(
            found(Some("web"), Some("4711")),
            (Some(33), Some(4711), vec![4, 110, 4711])
        );
        assert_eq!(found(None, Some("adm")), (None, Some(4), vec![]));
        assert_eq!(found(None, None), (None, None, vec![]));
    }

    #[test]
    fn names_go_before_numbers() {
        assert_eq!(found(Some("1000"), None), (Some(77), Some(78), vec![78]));
        let user = find(PASSWD, GROUP, Some("1000"), None)
            .unwrap()
            .user
            .unwrap();
        assert_eq!(
            (user.home.as_str(), user.shell.as_str()),
            ("/home/odd", "/bin/sh")
        );
    }

    #[test]
    fn a_number_without_an_entry_needs_a_group() {
        assert_eq!(
            found(Some("4711"), Some("4712")),
            (Some(4711), Some(4712), vec![4712])
        );
        let error = find(PASSWD, GROUP, Some("4711"), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("give `group`, too"), "{error}");
    }

    #[test]
    fn nobody_has_the_number_that_means_no_change() {
        let passwd = "trap:x:4294967295:0::/:\nother:x:7:4294967295::/:\n";
        for user in ["trap", "other", "4294967295"] {
            assert!(
                find(passwd, GROUP, Some(user), Some("0")).is_err(),
                "{user}"
            );
        }
        assert!(find(PASSWD, "trap:x:4294967295:\n", None, Some("trap")).is_err());
        assert!(find(PASSWD, GROUP, None, Some("4294967295")).is_err());
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error = find(PASSWD, GROUP, Some("bob"), None)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("find user bob: no such user"), "{error}");
        let error = find(PASSWD, GROUP, Some("web"), Some("staff"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("find group staff: no such group"),
            "{error}"
        );
        assert!(find(PASSWD, GROUP, Some("broken"), None).is_err());
    }
}
