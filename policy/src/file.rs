//! stub
use crate::{Class, Deed, Judgement};
#[derive(Debug, Default)]
pub struct Paths;
impl Paths {
    pub fn judge(&self, deed: Deed, path: &str, workspace: &str) -> Judgement {
        let mut j = Judgement::default();
        let inside = crate::path::is_within(path, workspace) || path.starts_with("/tmp");
        if self.lies_in(path, "secret", workspace) {
            j.raise(Class::Red, "file.secret");
        }
        match deed {
            Deed::Read => {
                if !inside && self.lies_in(path, "system", workspace) {
                    j.raise(Class::Yellow, "file.outside")
                }
            }
            _ => {
                j.raise(Class::Yellow, "file.write");
                if self.lies_in(path, "system", workspace) {
                    j.raise(Class::Red, "file.system")
                }
            }
        }
        j
    }
    pub fn lies_in(&self, path: &str, set: &str, workspace: &str) -> bool {
        let under = |list: &[&str]| list.iter().any(|p| crate::path::is_within(path, p));
        match set {
            "root" => matches!(path, "/" | "/*"),
            "home" => path == "~" || path == "~/*" || path == "/root" || (path.starts_with("/home/") && path.matches('/').count() == 2) || path == "/home",
            "system" => {
                under(&["/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/var", "/boot", "/proc", "/sys", "/dev", "/opt", "/root", "/srv", "/run"])
                    && !under(&["/var/tmp"])
                    || path == "/"
            }
            "secret" => ["/.ssh/", "/etc/shadow", "/etc/gshadow", "/.aws/", "/.netrc", "/etc/sudoers"].iter().any(|p| path.contains(p)),
            "persist" => ["/etc/cron", "/.bashrc", "/etc/systemd", "/etc/init"].iter().any(|p| path.contains(p)),
            "device" => path.starts_with("/dev/"),
            "workspace" => crate::path::is_within(path, workspace),
            "temp" => under(&["/tmp", "/var/tmp"]),
            _ => false,
        }
    }
}
