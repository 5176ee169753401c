package Through;

# Puts a proxy between the clients of nginx's own tests and the nginx that they start: perl loads this before a test
# (PERL5OPT), and it moves nginx from 127.0.0.1:8080 to 127.0.0.2:8080, so that port, Host and redirects stay what the
# test expects, and starts the proxy on the address that the clients know.
#
# ONCEGATE_THROUGH: direct, nginx, haproxy or oncegate. ONCEGATE_PROGRAM: the binary.

use warnings;
use strict;
use lib 'lib';
use Test::Nginx;

my $kind = $ENV{ONCEGATE_THROUGH} || 'direct';
my ($moved, $proxy, $owner);

my %configuration = (oncegate => <<'GATE', haproxy => <<'HAPROXY', nginx => <<'NGINX');
[server]
listen = "127.0.0.1:PORT"
workers = 1
lame_duck = "0s"
drain = "1s"
forwarded = "off"
request_id_header = "X-Gate-Id"
via = false
[clients]
trusted_proxies = ["127.0.0.0/8"]
[admin]
listen = "127.0.0.1:0"
[log]
level = "error"
[store]
url = "memory:"
[[upstream]]
name = "tested"
url = "http://127.0.0.2:PORT"
target = "original"
bare_lf = true
timeout = "60s"
[[route]]
name = "all"
match = "* /**"
upstream = "tested"
upgrade = ["websocket", "foo"]
GATE
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
frontend clients
  bind 127.0.0.1:PORT
  default_backend tested
backend tested
  server tested 127.0.0.2:PORT
HAPROXY
daemon off;
user root;
worker_processes 1;
pid DIR/peer.pid;
error_log DIR/peer.log;
events { }
http {
  access_log off;
  client_body_temp_path DIR/peer_body; proxy_temp_path DIR/peer_proxy; fastcgi_temp_path DIR/peer_fastcgi;
  uwsgi_temp_path DIR/peer_uwsgi; scgi_temp_path DIR/peer_scgi;
  map $http_upgrade $peer_connection { default upgrade; '' ''; }
  upstream tested { server 127.0.0.2:PORT; keepalive 8; }
  server {
    listen 127.0.0.1:PORT;
    client_max_body_size 0;
    underscores_in_headers on;
    ignore_invalid_headers off;
    location / {
      proxy_pass http://tested;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection $peer_connection;
      proxy_set_header Upgrade $http_upgrade;
      proxy_pass_header Server; proxy_pass_header Date;
      proxy_pass_header X-Accel-Redirect; proxy_pass_header X-Accel-Expires; proxy_pass_header X-Accel-Limit-Rate;
      proxy_pass_header X-Accel-Buffering; proxy_pass_header X-Accel-Charset; proxy_pass_header X-Pad;
      proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
      proxy_buffering off; proxy_request_buffering off; proxy_redirect off; proxy_next_upstream off;
    }
  }
}
NGINX

my %command = (
	oncegate => sub { ($ENV{ONCEGATE_PROGRAM}, 'run', '--config', $_[0]) },
	haproxy => sub { ('haproxy', '-db', '-q', '-f', $_[0]) },
	nginx => sub { ('nginx', '-c', $_[0], '-p', $_[1], '-e', "$_[1]/peer.log") },
);

sub begin {
	my ($test) = @_;
	my ($dir, $port) = ($test->testdir(), Test::Nginx::port(8080));
	my ($text, $file) = ($configuration{$kind}, "$dir/peer.conf");
	$text =~ s/PORT/$port/g;
	$text =~ s/DIR/$dir/g;
	open my $out, '>', $file or die "$file: $!";
	print $out $text;
	close $out;
	$proxy = fork();
	if ($proxy == 0) {
		open STDOUT, '>', "$dir/peer.out";
		open STDERR, '>&', \*STDOUT;
		exec $command{$kind}->($file, $dir) or die "exec: $!";
	}
	$owner = $$;
	$test->waitforsocket("127.0.0.1:$port") or die "the proxy does not listen: see $dir/peer.out";
}

sub end {
	return unless $proxy && $owner == $$;
	local $?;
	kill 'TERM', $proxy;
	for (1 .. 30) {
		return undef $proxy if waitpid($proxy, 1);
		select undef, undef, undef, 0.1;
	}
	kill 'KILL', $proxy;
	waitpid($proxy, 0);
	undef $proxy;
}

END { end() }

# Line ends as HTTP has them: the tests end the lines of their requests' heads with a bare LF, which a proxy is right to
# refuse. Bodies stay as they are; what follows a body that ends with its announced length may be another head.
sub lines {
	my ($text) = @_;
	my $head = qr/\A(?:[A-Za-z][\w-]* \S+[^\r\n]*\r?\n)/;
	return $text unless $text =~ $head;
	return $text =~ s/(?<!\r)\n/\r\n/gr unless $text =~ /\A(.*?\n)(\r?\n)(.*)\z/s;
	my ($fields, $rest) = ($1, $3);
	my $body = '';
	if ($fields =~ /^Content-Length: *(\d+)/mi) {
		$body = substr $rest, 0, $1, '';
	}
	return ($fields =~ s/(?<!\r)\n/\r\n/gr) . "\r\n" . $body . lines($rest);
}

{
	no warnings 'redefine';
	my ($write, $run, $stop, $start) = map { Test::Nginx->can($_) } qw/ write_file_expand run stop http_start /;
	*Test::Nginx::write_file_expand = sub ($$) {
		my ($self, $name, $content) = @_;
		if ($kind ne 'direct' && $name eq 'nginx.conf') {
			$moved = 1 if $content =~
				s/(listen\s+127\.0\.0\.)1:8080(?![^;]*\b(?:ssl|proxy_protocol|http2|quic|udp)\b)/${1}2:%%PORT_8080%%/g;
		}
		return $write->($self, $name, $content);
	};
	*Test::Nginx::run = sub (;$) {
		my ($self, @rest) = @_;
		my $result = $run->($self, @rest);
		begin($self) if $moved && !$proxy;
		return $result;
	};
	*Test::Nginx::stop = sub () {
		my ($self) = @_;
		my $result = $stop->($self);
		end();
		return $result;
	};
	*Test::Nginx::http_start = sub ($;%) {
		my ($request, %extra) = @_;
		return $start->(lines($request), %extra);
	};
}

1;
