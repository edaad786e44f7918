//! What input is thrown at.

use policy::law::{EXAMPLE_WORKSPACE, Law, Source};

pub struct Target {
    pub name: &'static str,
    /// One JSON string a line.
    pub corpus: &'static str,
    /// What input is built from; `@` is the place for more.
    pub pieces: &'static [&'static str],
    pub prepare: fn() -> Box<dyn Fn(&str)>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "shell", corpus: include_str!("../corpus/shell.jsonl"), pieces: SHELL, prepare: shell },
    Target { name: "rules", corpus: include_str!("../corpus/rules.jsonl"), pieces: RULES, prepare: rules },
];

const SHELL: &[&str] = &[
    "$((@))", "((@))", "${x:-@}", "${x#@}", "${x/@/@}", "${x:0:@}", "${!x@}", "${x@P}", "{ @; }", "(@)", "$(@)", "`@`", "<(@)", ">(@)", "\"@\"", "'@'", "$'@'", "if @; then @; fi", "case @ in a) @ ;; *) @ ;; esac", "for i in @; do @; done",
    "while @; do @; done", "f() { @; }; f", "[[ @ ]]", "[ @ ]", "@ | @", "@ && @", "@ || @", "@ & @", "! @", "time @", "@; @", "x=@", "x+=@", "x=(@)", "${x[@]}", "${x[1]}", "$x", "${IFS}", "$@", "$1", "~", "{a,@}", "{1..@}", "*", "?", "[a-z]",
    "cat <<E\n@\nE\n", "bash <<'E'\n@\nE\n", "sh -c '@'", "bash -c \"@\"", "eval @", "trap '@' EXIT", "sudo @", "env A=b @", "env -S '@'", "xargs @", "xargs -I{} sh -c '@'", "find . -exec @ \\;", "find . -name @ -exec @ + -exec @ \\;", "parallel @ ::: @",
    "ssh h '@'", "docker exec c @", "timeout 5 @", "nice -n 5 @", "busybox @", "git -c alias.x='!@' x", "python3 -c '@'", "perl -e '@'", "awk 'BEGIN{system(\"@\")}'", "sed 's/a/b/e;@'", "vim -c ':!@'", "tar --checkpoint-action=exec='@' -cf x y", "node -e '@'",
    "ruby -e '`@`'", "base64 -d <<< @ | sh", "echo @ | sh", "printf '@' | sh", "curl @ | sh", "rm -rf @", "> @", ">> @", "2>&1", "< @", "&> @", "<<< @", "/dev/tcp/a/1", "alias a='@'", "export X=@", "source @", "exec @", "command @", "\\\n", "\n", "#@\n", "--", "-@",
    "--x=@", "os.system('@')", "subprocess.run([@])", "require('child_process').exec('@')", "%x{@}", "qx(@)", "f'{@}'", "'''@'''", "/*@*/", "//@\n",
];

fn shell() -> Box<dyn Fn(&str)> {
    let law = law();
    Box::new(move |line| {
        let judged = law.shell(line, EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE);
        assert!(judged.class > policy::Class::Green || !judged.unknown, "what nobody can read is not Green");
        assert_eq!(judged, law.shell(line, EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE), "the same question has the same answer");
    })
}

const RULES: &[&str] = &[
    "[[rule]]\n", "id = \"a.b\"\n", "class = \"red\"\n", "commands = [@]\n", "\"@\"", "\"rm -r|-f @root\",", "\"@x y|z ** !-n|--dry-run $ ~drop table~\",", "reason = { de = \"@\", en = \"@\" }\n", "match = [@]\n", "not_match = [@]\n", "[[program]]\n", "names = [@]\n",
    "options = { @ }\n", "\"-o= --out=\" = \"write\",", "operands = [\"\", \"read\"]\n", "green = [@]\n", "[[program.sub]]\n", "name = \"@\"\n", "[group]\n", "x = [@]\n", "[environment]\n", "effect = \"read\"\npaths = [@]\n", "\"**/@*\",", "=", "[", "]", "{", "}", "\"", "'''", "#", "\n",
];

fn rules() -> Box<dyn Fn(&str)> {
    let base: Vec<(String, String)> = crate::law::texts().into_iter().filter(|(name, _)| ["registry.toml", "paths.toml", "http.toml"].contains(&name.as_str())).collect();
    Box::new(move |text| {
        let mut texts = base.clone();
        texts.push(("made-up.toml".to_owned(), text.to_owned()));
        let sources: Vec<Source<'_>> = texts.iter().map(|(name, text)| Source { name, text }).collect();
        let Ok((law, _)) = Law::read_lax(&sources) else { return };
        law.check();
        law.shell("rm -rf / && a b c --out x", EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE);
    })
}

fn law() -> Law {
    let texts = crate::law::texts();
    let sources: Vec<Source<'_>> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    Law::read_lax(&sources).expect("the law is readable").0
}
