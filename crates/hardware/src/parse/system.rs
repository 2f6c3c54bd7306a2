//! The rest of a system: name service, limits, the clock.

use super::text::field;

/// Name servers of /etc/resolv.conf.
#[must_use]
pub fn name_servers(resolv_conf: &str) -> Vec<String> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| words.next())?
        })
        .map(str::to_owned)
        .collect()
}

/// Words of the last `search` line of /etc/resolv.conf, which is the one that counts.
#[must_use]
pub fn search_domains(resolv_conf: &str) -> Vec<String> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "search").then(|| words.map(str::to_owned).collect())
        })
        .next_back()
        .unwrap_or_default()
}

/// Addresses that /etc/hosts gives `name`.
#[must_use]
pub fn hosts(text: &str, name: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?;
            words.any(|word| word == name).then(|| address.to_owned())
        })
        .collect()
}

/// The soft limit of a line of /proc/PID/limits such as `Max locked memory`;
/// `u64::MAX` stands for unlimited.
#[must_use]
pub fn limit(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Controllers that the kernel knows and has not disabled, from /proc/cgroups.
#[must_use]
pub fn cgroup_controllers(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (*words.get(3)? == "1").then(|| words.first().copied())?
        })
        .map(str::to_owned)
        .collect()
}

/// Whether somebody disciplines the clock, from what adjtimex(2) returned and its
/// `status`: STA_UNSYNC (0x40 of linux/timex.h) is clear and the call did not
/// return TIME_ERROR (5).
#[must_use]
pub fn synchronized(state: i32, status: i32) -> bool {
    status & 0x40 == 0 && state != 5
}

/// Options that a kernel's configuration sets: `CONFIG_X=y` gives (`CONFIG_X`, `y`).
pub fn kernel_config(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter(|line| line.starts_with("CONFIG_"))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name, value.trim().trim_matches('"')))
}

/// A proxy's address without the password that may stand in it.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Some((front, host)) = url.rsplit_once('@') else {
        return url.to_owned();
    };
    let (scheme, user) = front.split_once("://").unwrap_or(("", front));
    let user = user.split(':').next().unwrap_or_default();
    match scheme {
        "" => format!("{user}@{host}"),
        scheme => format!("{scheme}://{user}@{host}"),
    }
}

/// The effective capabilities of /proc/self/status, as a set of bits.
#[must_use]
pub fn effective_capabilities(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff")?, 16).ok()
}

/// The parent of a process, from its /proc/PID/status.
#[must_use]
pub fn parent(status: &str) -> Option<u32> {
    field(status, "PPid")?.parse().ok()
}

/// A variable of /proc/PID/environ: entries end with a zero byte.
#[must_use]
pub fn environ(bytes: &[u8], name: &str) -> Option<String> {
    bytes.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_their_files() {
        assert_eq!(
            name_servers("# nameserver 9.9.9.9\nnameserver 10.0.2.3\nnameserver\n"),
            ["10.0.2.3"]
        );
        assert_eq!(
            hosts("127.0.1.1 edge1 e # edge2\n#10.0.0.1 edge1\n", "edge1"),
            ["127.0.1.1"]
        );
        assert!(hosts("127.0.1.1 edge1 # edge2", "edge2").is_empty());
    }

    #[test]
    fn limits_may_be_unlimited() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax locked memory   8388608  8388608 bytes\nMax cpu time  unlimited unlimited seconds\n";
        assert_eq!(limit(text, "Max locked memory"), Some(8 << 20));
        assert_eq!(limit(text, "Max cpu time"), Some(u64::MAX));
        assert_eq!(limit(text, "Max nothing"), None);
    }

    #[test]
    fn a_disabled_controller_is_none() {
        let text = "#subsys_name hierarchy num_cgroups enabled\ncpu 0 1 1\nmemory 0 1 0\nx\n";
        assert_eq!(cgroup_controllers(text), ["cpu"]);
    }

    #[test]
    fn a_clock_nobody_disciplines_is_not_synchronized() {
        assert!(synchronized(0, 0x2001));
        assert!(!synchronized(5, 0x40));
        assert!(!synchronized(0, 0x40));
    }

    #[test]
    fn a_kernels_configuration_lists_what_is_set() {
        let text = "# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_C=\"x\"\n";
        let found: Vec<_> = kernel_config(text).collect();
        assert_eq!(found, [("CONFIG_B", "m"), ("CONFIG_C", "x")]);
    }

    #[test]
    fn a_proxys_password_is_taken_out() {
        for (url, expected) in [
            ("http://u:p@h:1", "http://u@h:1"),
            ("http://u:p@x@h", "http://u@h"),
            ("u:p@h", "u@h"),
            ("http://h:1", "http://h:1"),
        ] {
            assert_eq!(without_password(url), expected);
        }
    }

    #[test]
    fn variables_of_a_process_end_with_zero_bytes() {
        assert_eq!(environ(b"AB=1\0B=2\0", "B").as_deref(), Some("2"));
        assert_eq!(environ(b"\0\0B", "B"), None);
    }
}
