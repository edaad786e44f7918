#!/usr/bin/perl
# Every way out that somebody inside OpenClaw's sandbox might try, in the language that every Debian has.
#
#   ways.pl serve         stands for the world outside: answers on the ports below until it is ended
#   ways.pl try <agent>   tries each way and prints how many there are and which are open, on one line
#   ways.pl look <agent>  the same without what would change anything: for root, who may

use strict;
use warnings;
use Socket qw(:all);

my ($HOST4, $HOST6, $METADATA) = ("93.184.216.34", "2001:db8:1::1", "169.254.169.254");
my ($HOST_ITSELF, $SSH) = ("198.51.100.1", 2222);
my $ABSTRACT = "\0gatehouse-outside";
my @PATHS = ("/run/gatehouse-outside.sock", "/tmp/gatehouse-outside.sock", "/var/tmp/gatehouse-outside.sock", "/srv/gatehouse-outside.sock", "/dev/shm/gatehouse-outside.sock");
my $PLUGIN = "/var/lib/gatehouse/openclaw/plugin.sock";
my $WAIT_SECS = 1;

my ($verb, $agent) = @ARGV;
$verb eq "serve" ? serve() : try_all();

sub serve {
    $SIG{PIPE} = "IGNORE";
    my @tcp = map { listen_on(AF_INET, pack_sockaddr_in($_, INADDR_ANY)) } 80, 443, $SSH;
    push @tcp, map { listen_on(AF_INET6, pack_sockaddr_in6($_, IN6ADDR_ANY)) } 443;
    push @tcp, map { unlink $_; my $socket = listen_on(AF_UNIX, pack_sockaddr_un($_)); chmod 0777, $_; $socket } @PATHS;
    push @tcp, listen_on(AF_UNIX, pack_sockaddr_un($ABSTRACT));
    my @udp = map { socket(my $socket, AF_INET, SOCK_DGRAM, 0) or die $!; bind($socket, pack_sockaddr_in($_, INADDR_ANY)) or die $!; $socket } 53, 443;
    $| = 1;
    print "serving\n";
    while (1) {
        my $ready = "";
        vec($ready, fileno($_), 1) = 1 for @tcp, @udp;
        select($ready, undef, undef, undef) or next;
        for my $socket (@tcp) {
            next unless vec($ready, fileno($socket), 1);
            accept(my $peer, $socket) or next;
            syswrite($peer, "here\n");
        }
        for my $socket (@udp) {
            next unless vec($ready, fileno($socket), 1);
            my $from = recv($socket, my $said, 2000, 0);
            send($socket, "here\n", 0, $from) if defined $from;
        }
    }
}

sub listen_on {
    my ($family, $address) = @_;
    socket(my $socket, $family, SOCK_STREAM, 0) or die "socket: $!";
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) if $family != AF_UNIX;
    setsockopt($socket, IPPROTO_IPV6, IPV6_V6ONLY, 1) if $family == AF_INET6;
    bind($socket, $address) or die "bind: $!";
    listen($socket, 50) or die "listen: $!";
    return $socket;
}

sub try_all {
    my %ways = (
        tcp4 => sub { stream(AF_INET, four(443, $HOST4)) },
        tcp4_http => sub { stream(AF_INET, four(80, $HOST4)) },
        tcp6 => sub { stream(AF_INET6, six(443, $HOST6)) },
        mapped => sub { stream(AF_INET6, six(443, "::ffff:$HOST4")) },
        metadata => sub { stream(AF_INET, four(80, $METADATA)) },
        host_itself => sub { stream(AF_INET, four($SSH, $HOST_ITSELF)) },
        agent_other_port => sub { stream(AF_INET, four($SSH, $agent)) },
        dns => sub { datagram(four(53, $HOST4)) },
        quic => sub { datagram(four(443, $HOST4)) },
        name => sub { local $SIG{ALRM} = sub { die "late" }; alarm(2 * $WAIT_SECS); my ($error) = getaddrinfo("example.org", "443"); alarm 0; !$error },
        ping => sub { socket(my $socket, AF_INET, SOCK_DGRAM, 1) or return 0; send($socket, "\x08\0\xf7\xff\0\0\0\0", 0, four(0, $HOST4)) or return 0; answered($socket) },
        raw => sub { socket(my $socket, AF_INET, SOCK_RAW, 1) },
        raw6 => sub { socket(my $socket, AF_INET6, SOCK_RAW, 58) },
        packet => sub { socket(my $socket, 17, SOCK_RAW, 0x300) },
        vsock => sub { socket(my $socket, 40, SOCK_STREAM, 0) },
        abstract => sub { stream(AF_UNIX, pack_sockaddr_un($ABSTRACT)) },
        flush_rules => sub { quiet("/usr/sbin/nft", "flush", "ruleset") },
        list_rules => sub { quiet("/usr/sbin/nft", "list", "ruleset") },
        add_route => sub { quiet("/usr/sbin/ip", "route", "add", "default", "via", $agent) },
        add_address => sub { quiet("/usr/sbin/ip", "address", "add", "10.78.0.1/24", "dev", "lo") },
        user_namespace => sub { quiet("/usr/bin/unshare", "--user", "--map-root-user", "--net", "/bin/true") },
        leave_namespace => sub { quiet("/usr/bin/nsenter", "--net=/proc/1/ns/net", "/bin/true") },
        plugin => sub { plugin() },
        agent => sub { socket(my $socket, AF_INET, SOCK_STREAM, 0) or return 0; connects($socket, four(8411, $agent)) },
    );
    for my $path (@PATHS) {
        my ($folder) = $path =~ m{^/(.*)/};
        $ways{"path_" . $folder =~ s{/}{_}gr} = sub { stream(AF_UNIX, pack_sockaddr_un($path)) };
    }
    delete @ways{qw(flush_rules add_route add_address)} if $verb eq "look";
    my @open = grep { eval { $ways{$_}->() } } sort keys %ways;
    print scalar(keys %ways), " ways, open: @open.\n";
}

sub four { my ($port, $ip) = @_; return pack_sockaddr_in($port, inet_aton($ip)) }
sub six { my ($port, $ip) = @_; return pack_sockaddr_in6($port, inet_pton(AF_INET6, $ip)) }

sub connects {
    my ($socket, $to) = @_;
    # The kernel bounds a connect by the send timeout.
    setsockopt($socket, SOL_SOCKET, SO_SNDTIMEO, pack("l!l!", $WAIT_SECS, 0));
    return connect($socket, $to);
}

sub answered {
    my ($socket) = @_;
    setsockopt($socket, SOL_SOCKET, SO_RCVTIMEO, pack("l!l!", $WAIT_SECS, 0));
    my $said = "";
    return defined recv($socket, $said, 100, 0) && length $said;
}

sub stream {
    my ($family, $to) = @_;
    socket(my $socket, $family, SOCK_STREAM, 0) or return 0;
    return connects($socket, $to) && answered($socket);
}

sub datagram {
    my ($to) = @_;
    socket(my $socket, AF_INET, SOCK_DGRAM, 0) or return 0;
    return send($socket, "q", 0, $to) && answered($socket);
}

sub quiet {
    my @command = @_;
    my $pid = fork // return 0;
    if (!$pid) { open STDOUT, ">", "/dev/null"; open STDERR, ">", "/dev/null"; exec @command or exit 127 }
    waitpid($pid, 0);
    return $? == 0;
}

# With the plugin's own key, which a command of the same user may read where OpenClaw was started with it.
sub plugin {
    my $key = "";
    for my $path (glob "/proc/[0-9]*/environ") {
        open(my $file, "<", $path) or next;
        local $/;
        $key = $1 if (<$file> // "") =~ /GATEHOUSE_PLUGIN_KEY=([^\0]+)/;
    }
    socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or return 0;
    connect($socket, pack_sockaddr_un($PLUGIN)) or return 0;
    my $body = '{"agent_id":"main","session_key":"agent:main:main","trace_id":"t","span_id":""}';
    my $head = "POST /announce HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: " . length($body) . "\r\nx-gatehouse-key: $key\r\nconnection: close\r\n\r\n";
    syswrite($socket, $head . $body);
    setsockopt($socket, SOL_SOCKET, SO_RCVTIMEO, pack("l!l!", $WAIT_SECS, 0));
    my $said = "";
    sysread($socket, $said, 200);
    return $said =~ m{^HTTP/1.1 200};
}
