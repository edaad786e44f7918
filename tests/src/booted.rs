//! A machine of a test's own: systemd boots this machine's own files in a container, with a network of its own, and whatever
//! is changed there is gone afterwards. The test runs itself again as a unit of it.

use crate::processes::Processes;
use std::path::{Path, PathBuf};
use std::process::Command;

const INSIDE: &str = "GATEHOUSE_BOOTED";
/// Where the parts of OpenClaw lie inside.
const PARTS: &str = "/opt/gatehouse";

/// Overlays this machine's files, adds the unit of the test, boots. Everything is mounted in a namespace that ends with it.
const BOOT: &str = r#"
set -eu
mount -t tmpfs tmpfs "$STORY/machine"
cd "$STORY/machine"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
rm -rf root/etc/machine-id root/etc/gatehouse root/var/lib/gatehouse
: > root/etc/machine-id
mkdir -p root/opt/gatehouse root/story
cp "$STORY/story.service" "$STORY/story.target" root/etc/systemd/system/
# A group of its own, so that two machines at a time do not take each other's units for their own.
for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
  if [ -w "$tree/cgroup.procs" ] && mkdir "$tree/gatehouse-$$"; then echo $$ > "$tree/gatehouse-$$/cgroup.procs"; fi
done
leave() {
  for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ -d "$tree/gatehouse-$$" ]; then echo $$ > "$tree/cgroup.procs"; find "$tree/gatehouse-$$" -depth -type d -exec rmdir {} + || true; fi
  done
}
trap leave EXIT
timeout -k 10 "$SECS_MAX" systemd-nspawn --quiet --register=no --keep-unit --directory=root --machine="gatehouse-$$" --private-network \
  --resolv-conf=off --timezone=off --console=pipe --bind="$STORY:/story" --bind-ro="$PARTS_OUTSIDE:/opt/gatehouse" \
  --bind-ro="$BINARIES:/story/binaries" --bind-ro="$AGENT:/usr/bin/tenant-agent" --boot -- --unit=story.target
"#;

/// Longer than any story; a machine that hangs is ended.
const SECS_MAX: &str = "600";

/// Whether this process is inside; outside, runs the test `name` inside and asserts that it passed.
pub fn booted(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let parts = PathBuf::from(std::env::var_os("GATEHOUSE_PARTS").expect("tests/all installs the parts and sets GATEHOUSE_PARTS"));
    let part = |variable: &str| {
        let path = PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: tests/all sets it")));
        Path::new(PARTS).join(path.strip_prefix(&parts).expect("the parts lie in GATEHOUSE_PARTS"))
    };
    let agent = Processes::find().path("tenant-agent");
    let this = std::env::current_exe().expect("a test knows itself");
    let (binaries, file) = (this.parent().expect("it lies in a folder"), this.file_name().expect("it has a name").to_string_lossy());
    let story = std::env::temp_dir().join(format!("gatehouse-booted-{}", &service::random::token()[..12]));
    std::fs::create_dir_all(story.join("machine")).expect("a folder");
    let unit = format!(
        "[Unit]\nDescription=A story\nSuccessAction=exit-force\nFailureAction=exit-force\nSuccessActionExitStatus=0\nFailureActionExitStatus=1\n\
         [Service]\nType=oneshot\nExecStart=/story/binaries/{file} --exact {name} --ignored --nocapture --test-threads=1\n\
         StandardOutput=file:/story/log\nStandardError=file:/story/log\n\
         Environment={INSIDE}=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin GATEHOUSE_NODE={} GATEHOUSE_OPENCLAW={}\n",
        part("GATEHOUSE_NODE").display(),
        part("GATEHOUSE_OPENCLAW").display(),
    );
    std::fs::write(story.join("story.service"), unit).expect("a unit");
    std::fs::write(story.join("story.target"), "[Unit]\nRequires=basic.target story.service\nAfter=basic.target\n").expect("a unit");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", BOOT]);
    command.env("STORY", &story).env("SECS_MAX", SECS_MAX).env("PARTS_OUTSIDE", &parts).env("BINARIES", binaries).env("AGENT", agent);
    let output = command.output().expect("util-linux is installed");
    let log = std::fs::read_to_string(story.join("log")).unwrap_or_default();
    println!("{log}");
    assert!(
        output.status.success(),
        "`{name}` failed inside; its output is above.\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // A test that was not found is none that passed.
    assert!(log.contains("test result: ok. 1 passed"), "`{name}` was not run inside");
    std::fs::remove_dir_all(story).expect("the folder can be removed");
    false
}
