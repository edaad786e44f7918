//! What input is thrown at.

use crate::secrets;
use policy::bundle::Named;
use policy::law::EXAMPLE_WORKSPACE;
use policy::{Law, RuleBook};

/// What a target does with one input.
pub type Judge = Box<dyn Fn(&str)>;

pub struct Target {
    pub name: &'static str,
    /// One JSON string a line.
    pub corpus: &'static str,
    /// What input is built from; `@` is the place for more.
    pub pieces: &'static [&'static str],
    pub prepare: fn() -> Judge,
}

pub const TARGETS: &[Target] = &[
    Target { name: "shell", corpus: include_str!("../corpus/shell.jsonl"), pieces: SHELL, prepare: shell },
    Target { name: "rules", corpus: include_str!("../corpus/rules.jsonl"), pieces: RULES, prepare: rules },
    Target { name: "call", corpus: include_str!("../corpus/call.jsonl"), pieces: CALL, prepare: call },
    Target { name: "address", corpus: "", pieces: ADDRESS, prepare: address },
    Target { name: "text", corpus: include_str!("../corpus/text.jsonl"), pieces: secrets::PIECES, prepare: secrets::text },
    Target { name: "body", corpus: include_str!("../corpus/text.jsonl"), pieces: secrets::PIECES, prepare: secrets::body },
    Target { name: "stream", corpus: include_str!("../corpus/text.jsonl"), pieces: secrets::PIECES, prepare: secrets::stream },
    Target { name: "events", corpus: include_str!("../corpus/text.jsonl"), pieces: secrets::PIECES, prepare: secrets::events },
];

const SHELL: &[&str] = &[
    "$((@))",
    "((@))",
    "${x:-@}",
    "${x#@}",
    "${x/@/@}",
    "${x:0:@}",
    "${!x@}",
    "${x@P}",
    "{ @; }",
    "(@)",
    "$(@)",
    "`@`",
    "<(@)",
    ">(@)",
    "\"@\"",
    "'@'",
    "$'@'",
    "if @; then @; fi",
    "case @ in a) @ ;; *) @ ;; esac",
    "for i in @; do @; done",
    "while @; do @; done",
    "f() { @; }; f",
    "[[ @ ]]",
    "[ @ ]",
    "@ | @",
    "@ && @",
    "@ || @",
    "@ & @",
    "! @",
    "time @",
    "@; @",
    "x=@",
    "x+=@",
    "x=(@)",
    "${x[@]}",
    "${x[1]}",
    "$x",
    "${IFS}",
    "$@",
    "$1",
    "~",
    "{a,@}",
    "{1..@}",
    "*",
    "?",
    "[a-z]",
    "cat <<E\n@\nE\n",
    "bash <<'E'\n@\nE\n",
    "sh -c '@'",
    "bash -c \"@\"",
    "eval @",
    "trap '@' EXIT",
    "sudo @",
    "env A=b @",
    "env -S '@'",
    "xargs @",
    "xargs -I{} sh -c '@'",
    "find . -exec @ \\;",
    "find . -name @ -exec @ + -exec @ \\;",
    "parallel @ ::: @",
    "ssh h '@'",
    "docker exec c @",
    "timeout 5 @",
    "nice -n 5 @",
    "busybox @",
    "git -c alias.x='!@' x",
    "python3 -c '@'",
    "perl -e '@'",
    "awk 'BEGIN{system(\"@\")}'",
    "sed 's/a/b/e;@'",
    "vim -c ':!@'",
    "tar --checkpoint-action=exec='@' -cf x y",
    "node -e '@'",
    "ruby -e '`@`'",
    "base64 -d <<< @ | sh",
    "echo @ | sh",
    "printf '@' | sh",
    "curl @ | sh",
    "rm -rf @",
    "> @",
    ">> @",
    "2>&1",
    "< @",
    "&> @",
    "<<< @",
    "/dev/tcp/a/1",
    "alias a='@'",
    "export X=@",
    "source @",
    "exec @",
    "command @",
    "\\\n",
    "\n",
    "#@\n",
    "--",
    "-@",
    "--x=@",
    "os.system('@')",
    "subprocess.run([@])",
    "require('child_process').exec('@')",
    "%x{@}",
    "qx(@)",
    "f'{@}'",
    "'''@'''",
    "/*@*/",
    "//@\n",
];

fn shell() -> Judge {
    let law = law();
    Box::new(move |line| {
        let judged = law.shell(line, EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE);
        assert!(judged.class > policy::Class::Green || !judged.unknown, "what nobody can read is not Green");
        assert_eq!(judged, law.shell(line, EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE), "the same question has the same answer");
    })
}

const RULES: &[&str] = &[
    "[[rule]]\n",
    "id = \"a.b\"\n",
    "class = \"red\"\n",
    "commands = [@]\n",
    "\"@\"",
    "\"rm -r|-f @root\",",
    "\"@x y|z ** !-n|--dry-run $ ~drop table~\",",
    "reason = { de = \"@\", en = \"@\" }\n",
    "match = [@]\n",
    "not_match = [@]\n",
    "[[program]]\n",
    "names = [@]\n",
    "options = { @ }\n",
    "\"-o= --out=\" = \"write\",",
    "operands = [\"\", \"read\"]\n",
    "green = [@]\n",
    "[[program.sub]]\n",
    "name = \"@\"\n",
    "[group]\n",
    "x = [@]\n",
    "[environment]\n",
    "effect = \"read\"\npaths = [@]\n",
    "\"**/@*\",",
    "=",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'''",
    "#",
    "\n",
];

fn rules() -> Judge {
    Box::new(|text| {
        let texts = [Named { name: "made-up.toml".to_owned(), text: text.to_owned() }];
        let Ok(book) = RuleBook::read(&texts) else { return };
        let Ok(law) = Law::new(shipped::knowledge(), &[&book]) else { return };
        law.faults_of_examples(&book);
        law.shell("rm -rf / && a b c --out x", EXAMPLE_WORKSPACE, EXAMPLE_WORKSPACE);
    })
}

const CALL: &[&str] = &[
    "{\"tool\":\"exec\",\"params\":{@}}",
    "{\"tool\":\"browser\",\"params\":{@}}",
    "{\"tool\":\"a__send_b\",\"params\":{@}}",
    "{\"tool\":\"tool_call\",\"params\":{\"id\":\"exec\",\"args\":{@}}}",
    "\"command\":\"@\"",
    "\"path\":\"@\"",
    "\"url\":\"@\"",
    "\"request\":{@}",
    "\"actions\":[{@},{@}]",
    "\"job\":{@}",
    "\"payload\":{@}",
    "\"env\":{@}",
    "\"action\":\"send\"",
    "\"sql\":\"@\"",
    "\"amount\":1e99",
    "\"x\":[@]",
    ",",
    "null",
    "true",
    "-1",
    "\"\\u0000\"",
    "http://127.1",
    "file://",
    "../",
    "~/.ssh",
    "DROP TABLE",
];

fn call() -> Judge {
    let law = law();
    Box::new(move |text| {
        let Ok(call) = serde_json::from_str::<serde_json::Value>(text) else { return };
        let judged = law.judge(&policy::Call {
            assistant: "a",
            tool: call["tool"].as_str().unwrap_or("exec"),
            arguments: &call["params"],
            workspace: EXAMPLE_WORKSPACE,
            resolved: &[],
        });
        assert!(judged.class > policy::Class::Green || !judged.unknown, "what nobody can read is not Green");
    })
}

fn address() -> Judge {
    let law = law();
    Box::new(move |url| {
        let arguments = serde_json::json!({ "method": "GET", "url": url });
        law.judge(&policy::Call { assistant: "a", tool: "http_request", arguments: &arguments, workspace: EXAMPLE_WORKSPACE, resolved: &[] });
    })
}

const ADDRESS: &[&str] = &[
    "http://",
    "https://",
    "@",
    ":",
    "/",
    "\\",
    "127.0.0.1",
    "0x7f.1",
    "[::1]",
    "[::ffff:@]",
    "localhost",
    "%31",
    "。",
    "①",
    "169.254.169.254",
    "/latest/meta-data",
    "?url=@",
    "#@",
    "user:pw@",
    ".",
    "..",
    "xn--",
    "a.b",
    ":65536",
    "\t",
    "file:",
    "//",
];

fn law() -> Law {
    Law::new(shipped::knowledge(), &[&shipped::book()]).expect("what is shipped is a law")
}
