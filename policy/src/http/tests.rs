//! What requests are, as tables; and what must hold for all of them.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

static SHIPPED: LazyLock<Http> = LazyLock::new(|| Http::parse(TEXT).unwrap_or_else(|error| panic!("{error}")));
const TEXT: &str = include_str!("../../rules/known/http.toml");

fn of(method: &str, url: &str) -> Judgement {
    SHIPPED.judge(&Request { method, url, headers: &[], body: "" })
}

#[track_caller]
fn all(method: &str, class: Class, urls: &str) {
    for url in urls.split_whitespace() {
        let found = of(method, url);
        assert_eq!(found.class, class, "{method} {url} {:?}", found.because);
    }
}

#[test]
fn inside_is_inside_however_it_is_spelt() {
    all(
        "GET",
        Class::Red,
        "http://127.0.0.1 http://0/ http://127.1 http://127.0.1 http://2130706433/ http://3232235777/ http://017700000001/ http://0x7f.1/ http://0xA9.0xFE.0xA9.0xFE/ http://0251.00376.000251.0000376/
         http://7147006462/ http://425.510.425.510/ http://8.8.2056/ http://0x8.8.8.8/ http://127.0.0.1./ http://localhost. http://LOCALHOST http://a.localhost http://printer.local http://host.docker.internal
         http://kubernetes.default.svc http://a.b.svc.cluster.local http://nas.home.arpa http://intranet http://api/ http://rancher-metadata/latest/ http://localhost.localdomain http://router.lan
         http://①②⑦.⓪.⓪.① http://127。0。0。1 http://１２７.0.0.1 http://ⓔⓧⓐⓜⓟⓛⓔ.com http://ｌocalhost/
         http://[::] http://[::1]:80/ http://[0:0:0:0:0:ffff:127.0.0.1] http://[::ffff:a9fe:a9fe] http://[fe80::1] http://[fe80::1%25eth0]/ http://[fc00::1] http://[fd00:ec2::254]/ http://[64:ff9b::7f00:1] http://[2002:7f00:1::]
         http://[::127.0.0.1] http://[2001:db8::1] http://[2001:0:0:0:0:0:80ff:fefe] http://[ff02::1] http://[::1
         http://10.0.0.1 http://172.31.255.255 http://192.168.1.1 http://100.64.0.1 http://198.19.255.255 http://192.0.2.1 http://224.0.0.1 http://255.255.255.255 http://0.0.0.0:443
         http://10.0.0.1.nip.io http://10-0-0-1.example.org http://localtest.me http://7f000001.c0a80001.rbndr.us
         http://a@127.0.0.1/ http://a@b@c.org http://example.com@localhost http://example.com#@localhost/ http://127.0.0.1:80\\@example.com/ http://localhost\\.example.com http://127.0.0.1%00.example.com http://127.0.0.1%2f@example.com
         http:127.0.0.1 http:/127.0.0.1 http:///127.0.0.1 http:\\\\127.0.0.1 //127.0.0.1 127.0.0.1 localhost
         https://example.com/?u=http%3A%2F%2F127.0.0.1 https://example.com/?u=http%253A%252F%252F127.0.0.1 https://example.com/?host=127.0.0.1 https://example.com/?next=//10.0.0.1/a https://example.com/x/http://127.0.0.1/
         http://example.com:22/ http://example.com:6379/ http://example.com:08080/ http://example.com:+80/",
    );
}

#[test]
fn clouds_do_not_tell_their_secrets() {
    all(
        "GET",
        Class::Red,
        "http://169.254.169.254 http://169.254.169.254/latest/meta-data/ http://169.254.170.2/v2/credentials/ http://100.100.100.200/ http://192.0.0.192/ http://168.63.129.16/machine http://metadata.google.internal/computeMetadata/v1/
         http://metadata/ http://instance-data/latest/ https://metadata.packet.net/userdata http://metadata.tencentyun.com/ https://example.com/computeMetadata/v1/instance https://example.com/latest/user-data https://example.com/opc/v1/instance/
         https://example.com/openstack/latest/meta_data.json https://example.com/metadata/instance?api-version=1 https://example.com/metadata/v1.json https://example.com/%6catest/meta%2ddata",
    );
    for header in ["Metadata-Flavor", "x-aws-ec2-metadata-token"] {
        let found = SHIPPED.judge(&Request { method: "GET", url: "https://example.com/", headers: &[(header, "x")], body: "" });
        assert_eq!(found.class, Class::Red, "{header}");
    }
}

#[test]
fn other_schemes_are_no_web() {
    all(
        "GET",
        Class::Red,
        "file:///etc/passwd gopher://a/_x dict://a:1/ sftp://a ftp://a/b tftp://a/b ldap://a/ jar:http://a!/ data:text/html,x javascript:alert(1) netdoc:///a expect://id phar://a php://input ws://a wss://a FILE:///a 0://a x:y",
    );
}

#[test]
fn pages_and_answers_are_read_unasked() {
    all(
        "GET",
        Class::Green,
        "https://example.com/ https://en.wikipedia.org/wiki/Glob_(programming) https://docs.example.com/cli/volume/delete https://www.npmjs.com/package/@types/node https://example.com/a#b https://example.com/a?redirect=https%3A%2F%2Fexample.org
         https://api.stripe.com/v1/charges https://api.github.com/repos/o/r/pulls/1/merge https://api.github.com/user/subscriptions https://api.hetzner.cloud/v1/servers/1/actions https://slack.com/api/conversations.history
         https://shop.example.com/admin/api/orders/1/refunds.json https://api.example.com/2010-04-01/Accounts/1/Messages.json https://example.com/docs/metadata/overview https://example.com/search?q=localhost https://example.com/?version=1.2.3.4
         https://example.com/path;v=1/a:b https://de.wikipedia.org/wiki/München https://example.com//a http://example.com:8080/ http://93.184.216.34/ https://[2606:4700::1111]/",
    );
    all("HEAD", Class::Green, "https://example.com/");
    all("", Class::Green, "https://example.com/");
}

#[test]
fn a_method_says_what_is_done() {
    all(
        "POST",
        Class::Yellow,
        "https://api.github.com/repos/o/r/issues https://slack.com/api/chat.postMessage https://api.stripe.com/v1/plans https://api.stripe.com/v1/setup_intents/1/confirm https://api.stripe.com/v1/invoices/create_preview https://shop.example.com/admin/api/products.json",
    );
    all("DELETE", Class::Red, "https://api.github.com/repos/o/r/labels/x https://api.notion.com/v1/blocks/1");
    all("TRACE", Class::Red, "https://example.com/");
    for (method, body, headers, class, external) in [
        ("POST", "", &[][..], Class::Yellow, true),
        ("", "a=1", &[][..], Class::Yellow, true),
        ("POST", "_method=DELETE", &[][..], Class::Red, true),
        ("POST", "{\"_method\": \"delete\"}", &[][..], Class::Red, true),
        ("GET", "", &[("X-HTTP-Method-Override", "DELETE")][..], Class::Red, true),
        ("GET", "", &[("x-method-override", "FROB")][..], Class::Red, true),
        ("GET", "", &[("Host", "127.0.0.1")][..], Class::Red, false),
        ("GET", "", &[("X-A", "b\r\nHost: c")][..], Class::Red, false),
        ("GET", "", &[("Authorization", "x")][..], Class::Green, false),
    ] {
        let found = SHIPPED.judge(&Request { method, url: "https://example.com/a", headers, body });
        assert_eq!((found.class, found.external), (class, external), "{method} {body} {headers:?}");
    }
}

#[test]
fn money_names_and_machines_take_a_signature() {
    all(
        "POST",
        Class::CriticalRed,
        "https://api.stripe.com/v1/payment_intents https://api.stripe.com/v1/charges/1 https://api.stripe.com/v1/payouts/1/cancel https://api.stripe.com/v1/credit_notes https://api.stripe.com/v1/treasury/outbound_payments https://api-m.paypal.com/v2/checkout/orders/1/capture
         https://api-m.paypal.com/v1/payments/payouts https://shop.example.com/admin/api/orders/1/refunds.json https://pay.example.com/paymentIntents https://example.com/v1/wallet/withdraw https://api.wise.com/v1/transfers https://api.kraken.com/0/private/AddOrder
         https://api.hetzner.cloud/v1/servers/1/actions/rebuild https://api.cloudflare.com/client/v4/zones/1/dns_records https://api.hetzner.cloud/v1/ssh_keys https://api.example.com/campaigns/1/send https://example.com/v1/./x/../charges https://example.com/v1//charges https://example.com/v1/ch%61rges",
    );
    all(
        "DELETE",
        Class::CriticalRed,
        "https://api.hetzner.cloud/v1/servers/1 https://api.digitalocean.com/v2/databases/1 https://api.github.com/repos/o/r https://api.cloudflare.com/client/v4/zones/1",
    );
    all("GET", Class::Red, "https://api.example.com/users/1/delete https://example.com/a.php?action=delete&id=1 https://example.com/bot1/deleteMessage?id=1");
    all(
        "GET",
        Class::Yellow,
        "https://example.com/unsubscribe?u=1 https://example.com/bot1/sendMessage?text=a https://example.com/?api_key=abcdefgh12345678 https://größe.example/",
    );
    assert!(of("GET", "https://example.com/?access_token=abcdefgh12345678").external && !of("GET", "https://example.com/?q=a").external);
}

#[test]
fn what_is_shown_of_an_address_holds_no_secret() {
    let with_password = format!("https://name:{}@example.com/a", "hidden");
    for url in ["https://example.com/a?token=hidden", with_password.as_str(), "https://example.com/a#hidden"] {
        assert!(of("POST", url).effects.iter().all(|effect| !effect.target.contains("hidden")), "{url}");
    }
}

#[test]
fn faults_are_named_all_at_once() {
    let broken = TEXT
        .replace("words = [\"campaigns\"", "facts = [\"nonsense\"], words = [\"campaigns\"")
        .replace("match = [\"GET file:///etc/passwd\"", "match = [\"GET https://example.com/\"")
        .replace("hosts = [\"@vault\"]", "hosts = [\"@nowhere\"]");
    let Err(RulesError::Wrong(faults)) = Http::parse(&broken) else { panic!("the text is broken") };
    for (place, what) in [("`http.mass`", "nonsense"), ("`http.scheme`", "does not hold for its example"), ("`http.vault`", "@nowhere")] {
        assert!(faults.iter().any(|fault| fault.starts_with("http.toml:") && fault.contains(place) && fault.contains(what)), "{place} {what}: {faults:?}");
    }
    let unkept = TEXT.replace("when = { facts = [\"internal\"] }\nclass = \"red\"", "when = { facts = [\"internal\"] }\nclass = \"yellow\"");
    assert!(matches!(Http::parse(&unkept), Err(RulesError::Wrong(faults)) if faults.iter().any(|fault| fault.contains("`internal` is not Red"))));
    assert!(matches!(Http::parse(&TEXT.replace("[names]", "[names]\nmistake = 1")), Err(RulesError::Unreadable(_))));
}

#[test]
fn the_text_is_the_same_as_json() {
    let text: Text = toml::from_str(TEXT).unwrap();
    let json = serde_json::to_string(&text).unwrap();
    let again = Http::compile(serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(again.judge(&Request::get("http://127.0.0.1/")), of("GET", "http://127.0.0.1/"));
}

proptest! {
    #[test]
    fn nothing_panics(method in ".{0,8}", url in ".{0,120}", odd in "[a-z:/@#?%&=\\[\\]\\\\.0-9x]{0,80}", body in ".{0,60}") {
        of(&method, &url);
        of("GET", &format!("http://{odd}"));
        SHIPPED.judge(&Request { method: &method, url: &format!("https://example.com/{odd}"), headers: &[(&url, &body)], body: &body });
    }

    #[test]
    fn another_spelling_of_an_address_never_helps(bits: u32, shape in 0usize..5) {
        let [a, b, c, d] = bits.to_be_bytes();
        let plain = of("GET", &format!("http://{a}.{b}.{c}.{d}/"));
        let host = match shape {
            0 => format!("0x{bits:x}"),
            1 => format!("{bits}"),
            2 => format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            3 => format!("{a}.{}", u32::from(b) << 16 | u32::from(c) << 8 | u32::from(d)),
            _ => format!("[::ffff:{a}.{b}.{c}.{d}]"),
        };
        let spelt = of("GET", &format!("http://{host}/"));
        prop_assert!(spelt.class >= plain.class && (spelt.class >= Class::Red || host == format!("{a}.{b}.{c}.{d}")), "{}", host);
    }

    #[test]
    fn what_is_carried_counts(inner in prop::sample::select(vec!["http://127.0.0.1/", "http://169.254.169.254/", "file:///etc/passwd", "http://localhost/"]), encoded: bool) {
        let inner = if encoded { inner.replace(':', "%3A").replace('/', "%2F") } else { inner.to_owned() };
        let asked = of("GET", &format!("https://example.com/?url={inner}"));
        let gone = of("GET", &format!("https://example.com/go/{inner}"));
        prop_assert!(asked.class >= Class::Red && gone.class >= Class::Red);
    }
}
