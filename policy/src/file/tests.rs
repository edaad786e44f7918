//! What deeds to files are, as tables; and what must hold for all of them.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

static SHIPPED: LazyLock<Paths> = LazyLock::new(|| Paths::parse(TEXT).unwrap_or_else(|error| panic!("{error}")));
const TEXT: &str = include_str!("../../rules/known/paths.toml");
const HOME: &str = "/home/assistant";

fn of(deed: Deed, path: &str) -> Class {
    SHIPPED.judge(deed, path, EXAMPLE_WORKSPACE).class
}

#[track_caller]
fn all(deeds: &[Deed], least: Class, most: Class, paths: &str) {
    for path in paths.split_whitespace() {
        let path = path.replace("HOME", HOME);
        for deed in deeds {
            let found = SHIPPED.judge(*deed, &path, EXAMPLE_WORKSPACE);
            assert!((least..=most).contains(&found.class), "{deed:?} {path}: {:?}", found.because);
        }
    }
}

const ANY: &[Deed] = &[Deed::Read, Deed::Write, Deed::Change, Deed::Delete, Deed::Upload];
const CHANGES: &[Deed] = &[Deed::Write, Deed::Change, Deed::Delete];

#[test]
fn credentials_are_red_whatever_is_done() {
    all(
        ANY,
        Class::Red,
        Class::CriticalRed,
        "HOME/.ssh/id_rsa HOME/.ssh/known_hosts HOME/.aws/credentials HOME/.azure/a HOME/.config/gcloud/a HOME/.kube/config HOME/.docker/config.json HOME/.netrc HOME/.pgpass HOME/.my.cnf HOME/.npmrc HOME/.pypirc HOME/.git-credentials HOME/.gitconfig
         HOME/.config/gh/hosts.yml HOME/.config/hub HOME/.mozilla/firefox/a/logins.json HOME/.config/google-chrome/Default/Cookies HOME/.local/share/keyrings/a HOME/.password-store/a.gpg HOME/.bash_history HOME/.zsh_history HOME/.bitcoin/wallet.dat
         HOME/.openclaw/openclaw.json HOME/.openclaw/credentials/a HOME/.openclaw/agents/main/sessions/a.jsonl HOME/other/.env /root/.ssh/authorized_keys /root/notes
         /etc/shadow /etc/gshadow- /etc/shadow.bak /etc/sudoers /etc/pam.d/su /etc/ssl/private/a.key /etc/ssh/ssh_host_rsa_key /etc/wireguard/wg0.conf /etc/openvpn/a.conf /etc/ipsec.secrets /etc/NetworkManager/system-connections/a /etc/kubernetes/admin.conf
         /run/secrets/a /run/docker.sock /var/run/docker.sock /run/containerd/containerd.sock /var/lib/cloud/instance/user-data.txt /proc/1/environ /proc/self/mem /proc/self/maps /proc/kcore /proc/1/root/etc/hosts /proc/config /sys/config /dev/mem /dev/sda
         /etc/gatehouse/agent.toml /var/lib/gatehouse/agent/a
         .env .env.local a/.env.bak a/.env~ a/server.PEM a/b.key a/c.p12 a/d.jks a/e.kdbx a/f.ovpn id_ed25519 a/id_rsa.old terraform.tfstate terraform.tfstate.backup prod.tfvars kubeconfig credentials.json secrets.yaml secrets/database service-account-prod.json .htpasswd wp-config.php a|sh",
    );
}

#[test]
fn ordinary_files_only_sound_like_credentials() {
    all(
        &[Deed::Read, Deed::Write, Deed::Change, Deed::Delete],
        Class::Green,
        Class::Yellow,
        "useAuthToken.test.ts docs/credentials.md secret-santa.txt password_reset.html key.ts src/keys.rs src/secrets/index.ts tokens.json package.json package-lock.json Makefile Dockerfile .github/workflows/ci.yml .gitignore .vscode/launch.json
         src/hooks/useX.ts packages/cli/src/skills/a.md project/AGENTS.md memory/today.md .env.example a/.env.sample src/env.ts src/vault/index.ts src/wallet.ts src/history.ts docs/ssh.md src/shadow.css [slug]/page.tsx (group)/page.tsx {id}.ts größe.md /tmp/a /var/tmp/b /dev/shm/c",
    );
    all(&[Deed::Read], Class::Green, Class::Green, "notes.md a/b/c.ts /tmp/a /data/a.csv /path/to/file .");
    all(
        &[Deed::Read],
        Class::Yellow,
        Class::Yellow,
        "/etc/hostname /usr/share/doc/a /proc/cpuinfo /var/log/nginx/access.log HOME/Documents/a.md /home/bob/a.md / /etc /home",
    );
    all(CHANGES, Class::Yellow, Class::Yellow, "notes.md /tmp/a /data/a HOME/Documents/a.md HOME/workspace");
}

#[test]
fn the_system_and_what_runs_by_itself_are_red() {
    all(
        CHANGES,
        Class::Red,
        Class::CriticalRed,
        "HOME/.bashrc HOME/.zprofile HOME/.config/fish/config.fish HOME/.config/autostart/a.desktop HOME/.config/systemd/user/a.service /.config/systemd/user/a HOME/.inputrc HOME/.vimrc /root/.cshrc /etc/crontab /etc/cron.d/a /var/spool/cron/a /etc/systemd/system/a.service /usr/lib/systemd/system/a
         /etc/init.d/a /etc/rc.local /etc/profile.d/a.sh /etc/environment /etc/udev/rules.d/a /etc/doas.conf /usr/bin/ls /bin/sh /lib/a.so /boot/a /var/log/syslog /var/www/index.html /opt/a /home/bob/a /proc/sys/kernel/core_pattern
         .git/hooks/pre-commit a/.git/config .husky/pre-push .vscode/tasks.json a/.npmrc AGENTS.md SOUL.md TOOLS.md HEARTBEAT.md IDENTITY.md USER.md BOOTSTRAP.md MEMORY.md skills/a/SKILL.md hooks/a",
    );
    all(
        CHANGES,
        Class::CriticalRed,
        Class::CriticalRed,
        "/etc/sudoers /etc/sudoers.d/a /etc/pam.d/su /etc/ld.so.preload HOME/.ssh/authorized_keys /etc/gatehouse/agent.toml HOME/.openclaw/openclaw.json /dev/sda /etc/passwd /etc/ssh/sshd_config /etc/nftables.conf",
    );
    all(&[Deed::Delete], Class::CriticalRed, Class::CriticalRed, "/ /etc /usr /home /home/bob HOME HOME/.openclaw ..");
    assert_eq!(of(Deed::Delete, "."), Class::Red);
}

#[test]
fn sets_are_told_from_the_workspace() {
    let is = |path: &str, workspace: &str, set: &str| SHIPPED.sets(path, workspace).meets(SHIPPED.set(set).unwrap());
    for (path, workspace, sets) in [
        ("/home/alice/.openclaw/workspace/a", "/home/alice/.openclaw/workspace", &["workspace"][..]),
        ("a/b", "/home/alice/.openclaw/workspace", &["workspace", "relative"]),
        ("/home/alice/.openclaw/workspace", "/home/alice/.openclaw/workspace", &["workspace", "base"]),
        ("/home/alice/.openclaw", "/home/alice/.openclaw/workspace", &["home", "above", "secret"]),
        ("/home/alice", "/home/alice/.openclaw/workspace", &["home", "above", "root"]),
        ("/home/bob/a", "/home/alice/.openclaw/workspace", &["stranger"]),
        ("/root/a", "/home/alice/.openclaw/workspace", &["stranger", "administrator"]),
        ("/root/a", "/root/.openclaw/workspace", &["home"]),
        ("/srv/agent/a", "/srv/agent/.openclaw/workspace", &["home", "system"]),
        ("/tmp/w/.env", "/tmp/w", &["workspace", "secret"]),
        ("/data/a", "/w", &["unknown"]),
        ("/etc", "/w", &["system", "root"]),
        ("/private/etc/shadow", "/w", &["system", "secret"]),
        ("/dev/sda", "/w", &["device"]),
        ("/tmp/a", "/w", &["temp"]),
    ] {
        for set in
            ["root", "home", "stranger", "workspace", "base", "above", "relative", "unknown", "administrator", "system", "secret", "temp", "device", "persist"]
        {
            assert_eq!(is(path, workspace, set), sets.contains(&set), "{path} seen from {workspace}: {set}");
        }
    }
    assert_eq!(SHIPPED.set("nonsense"), None);
}

#[test]
fn faults_are_named_all_at_once() {
    let broken = TEXT
        .replace("sets = [\"kernel\"]", "sets = [\"nonsense\"]")
        .replace("\"/proc/**\", \"/sys/**\", \"!/proc\"", "\"proc/**\", \"/sys/**\", \"!/proc\"")
        .replace("match = [\"read /dev/sda\"", "match = [\"look /dev/sda\"");
    let Err(RulesError::Wrong(faults)) = Paths::parse(&broken) else { panic!("the text is broken") };
    for what in ["nonsense", "`proc/**` is no pattern", "has an example without a deed"] {
        assert!(faults.iter().any(|fault| fault.starts_with("paths.toml:") && fault.contains(what)), "{what}: {faults:?}");
    }
    let unkept = TEXT.replace("sets = [\"secret\"]\nclass = \"red\"", "sets = [\"secret\"]\nclass = \"yellow\"");
    assert!(matches!(Paths::parse(&unkept), Err(RulesError::Wrong(faults)) if faults.iter().any(|fault| fault.contains("`secret` is not red to Read"))));
}

#[test]
fn the_text_is_the_same_as_json() {
    let text: Text = toml::from_str(TEXT).unwrap();
    let again = Paths::compile(serde_json::from_str(&serde_json::to_string(&text).unwrap()).unwrap()).unwrap();
    assert_eq!(again.judge(Deed::Read, ".env", "/w"), SHIPPED.judge(Deed::Read, ".env", "/w"));
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop::sample::select(ANY.to_vec())
}

proptest! {
    #[test]
    fn nothing_panics(deed in deeds(), path in ".{0,80}", odd in "[a-z./~*]{0,40}", workspace in "[a-z./]{0,30}") {
        SHIPPED.judge(deed, &path, &workspace);
        SHIPPED.judge(deed, &odd, &workspace);
        SHIPPED.sets(&odd, &workspace);
    }

    #[test]
    fn a_longer_way_is_the_same_file(deed in deeds(), path in prop::sample::select(vec!["/etc/shadow", "/etc/hostname", "/tmp/a", "/home/assistant/.bashrc", "/data/a"]), steps in prop::collection::vec("[a-z]{1,5}", 0..4)) {
        let detour = steps.iter().fold(String::new(), |way, step| format!("{way}/{step}/..")) + "/." + path;
        prop_assert_eq!(SHIPPED.judge(deed, &detour, EXAMPLE_WORKSPACE).class, of(deed, path));
        prop_assert_eq!(of(deed, &path.to_uppercase()), of(deed, path));
    }

    #[test]
    fn a_secret_is_one_anywhere(deed in deeds(), folders in prop::collection::vec("[a-z]{1,6}", 0..5), name in prop::sample::select(vec![".env", "id_rsa", "a.pem", ".ssh/x", ".aws/credentials", "credentials.json"])) {
        let path = folders.iter().fold(String::new(), |path, folder| format!("{path}{folder}/")) + name;
        prop_assert!(of(deed, &path) >= Class::Red, "{}", path);
        prop_assert!(of(deed, &format!("/{path}")) >= Class::Red, "/{}", path);
    }

    #[test]
    fn green_is_only_what_is_read_where_it_may(deed in deeds(), path in "(/[a-z.]{1,8}){1,4}") {
        let sets = SHIPPED.sets(&absolute(&path, "/w").unwrap_or_default(), EXAMPLE_WORKSPACE);
        let allowed = ["workspace", "temp", "unknown", "quiet"].iter().any(|set| sets.meets(SHIPPED.set(set).unwrap()));
        prop_assert!(of(deed, &path) > Class::Green || (deed == Deed::Read && allowed), "{:?} {}", deed, path);
    }
}
