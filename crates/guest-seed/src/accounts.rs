//! /etc/passwd, /etc/group and /etc/shadow as texts. Pure; busybox of Debian has no useradd.

use crate::config::User;

/// The first uid for users who are not given one.
const FIRST_UID: u32 = 1000;

/// The three files.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    pub(crate) passwd: String,
    pub(crate) group: String,
    pub(crate) shadow: String,
}

/// Who owns a home directory, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) path: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Accounts {
    /// A user's home and ids.
    pub(crate) fn home(&self, name: &str) -> Option<Home> {
        let fields: Vec<&str> = line(&self.passwd, name)?.split(':').collect();
        let [_, _, uid, gid, _, path, _] = fields.as_slice() else {
            return None;
        };
        Some(Home {
            path: (*path).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    }

    /// A group's id.
    pub(crate) fn group_id(&self, name: &str) -> Option<u32> {
        line(&self.group, name)?.split(':').nth(2)?.parse().ok()
    }

    /// Makes a user, or changes what is given of one who is there.
    pub(crate) fn ensure(&mut self, user: &User) {
        if line(&self.passwd, &user.name).is_none() {
            let uid = user.uid.unwrap_or_else(|| self.free_uid());
            let home = user
                .home
                .clone()
                .unwrap_or_else(|| format!("/home/{}", user.name));
            // The demo guest has no other shell; a `bash` that is not there would lock the user out.
            let shell = if user
                .shell
                .as_deref()
                .is_some_and(|s| s.ends_with("nologin") || s.ends_with("false"))
            {
                "/sbin/nologin"
            } else {
                "/bin/sh"
            };
            let gecos = user
                .gecos
                .clone()
                .unwrap_or_default()
                .replace([':', '\n'], " ");
            let name = &user.name;
            self.passwd
                .push_str(&format!("{name}:x:{uid}:{uid}:{gecos}:{home}:{shell}\n"));
            if line(&self.group, name).is_none() {
                self.group.push_str(&format!("{name}:x:{uid}:\n"));
            }
            self.shadow
                .push_str(&format!("{name}:*:19000:0:99999:7:::\n"));
        }
        for group in &user.groups {
            self.join(&user.name, group);
        }
        if user.sudo {
            self.join(&user.name, "sudo");
        }
    }

    /// Sets the hash of a user's password.
    pub(crate) fn set_hash(&mut self, name: &str, hash: &str) {
        let hash = hash.replace([':', '\n'], "");
        self.shadow = edit(&self.shadow, name, |fields| fields[1].clone_from(&hash));
    }

    fn join(&mut self, name: &str, group: &str) {
        if group.is_empty() || group.contains([':', '\n']) {
            return;
        }
        if line(&self.group, group).is_none() {
            let gid = self.free_uid();
            self.group.push_str(&format!("{group}:x:{gid}:\n"));
        }
        self.group = edit(&self.group, group, |fields| {
            let members = &mut fields[3];
            if !members.split(',').any(|member| member == name) {
                if !members.is_empty() {
                    members.push(',');
                }
                members.push_str(name);
            }
        });
    }

    fn free_uid(&self) -> u32 {
        let taken: Vec<u32> = [&self.passwd, &self.group]
            .into_iter()
            .flat_map(|file| {
                file.lines()
                    .filter_map(|line| line.split(':').nth(2)?.parse().ok())
            })
            .collect();
        (FIRST_UID..)
            .find(|uid| !taken.contains(uid))
            .unwrap_or(FIRST_UID)
    }
}

fn line<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    file.lines()
        .find(|line| line.split(':').next() == Some(name))
}

fn edit(file: &str, name: &str, change: impl Fn(&mut Vec<String>)) -> String {
    let mut out = String::with_capacity(file.len() + 128);
    for line in file.lines() {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if fields[0] == name && fields.len() >= 4 {
            change(&mut fields);
        }
        out.push_str(&fields.join(":"));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_new_user_gets_a_free_uid_a_home_and_groups_and_an_old_one_stays() {
        let mut accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\ncirros:x:1000:1000::/home/cirros:/bin/sh\n"
                .into(),
            group: "root:x:0:\nsudo:x:27:cirros\ncirros:x:1000:\n".into(),
            shadow: "root:*:1:0:9:7:::\ncirros:h:1:0:9:7:::\n".into(),
        };
        let user = User {
            name: "ann".into(),
            sudo: true,
            groups: vec!["ops".into()],
            ..User::default()
        };
        accounts.ensure(&user);
        accounts.ensure(&user);
        accounts.set_hash("ann", "$6$x");
        accounts.set_hash("root", "$6$r");
        assert_eq!(
            accounts.home("ann").unwrap(),
            Home {
                path: "/home/ann".into(),
                uid: 1001,
                gid: 1001
            }
        );
        assert_eq!(
            accounts.group,
            "root:x:0:\nsudo:x:27:cirros,ann\ncirros:x:1000:\nann:x:1001:\nops:x:1002:ann\n"
        );
        assert_eq!(
            accounts.shadow,
            "root:$6$r:1:0:9:7:::\ncirros:h:1:0:9:7:::\nann:$6$x:19000:0:99999:7:::\n"
        );
    }
}
