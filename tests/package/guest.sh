#!/bin/bash
# The life of the package on a fresh Debian, inside a guest that tests/package/main.rs boots: guest.sh OLD.deb NEW.deb
#
# The network: an ISP in a namespace of its own (BIRD; it also answers for the primary), a link to it from this machine.
# Every part ends with a line "ok: ..."; the first failure ends the guest with what is known about it.
set -Eeuo pipefail
old=$1 new=$2 here=$(dirname "$0")
prefix=198.51.100.0/24
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

ok() {
    echo "ok: $* [$(cut -d' ' -f1 /proc/uptime) s]"
}

fail() {
    trap - ERR
    set +e
    echo "FAIL: $*"
    systemctl --no-pager status announcerd
    journalctl --no-pager -b -o short-monotonic | tail -n 60
    announcerctl status
    ip route show table all proto announcerd
    birdc -s /run/isp.ctl show protocols all isp | head -n 40
    birdc -s /run/isp.ctl show route
    cat /run/here.log /run/isp.log
    exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

# within SECONDS COMMAND: true as soon as COMMAND is.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "not in time: $*"
        sleep 0.1
    done
}

not() {
    ! "$@"
}

kernel_has() {
    [ -n "$(ip route show $prefix proto announcerd)" ]
}

isp_has() {
    [ -n "$(ip -n isp route show $prefix)" ]
}

state_is() {
    announcerctl status | grep "mainland .*$1" >/dev/null
}

session_is_up() {
    birdc -s /run/isp.ctl show protocols isp | grep Established >/dev/null
}

main_pid() {
    systemctl show -P MainPID announcerd
}

# What the monitors saw since they were last asked: was the prefix ever taken away?
never_removed() {
    ! grep -q "Deleted $prefix" /run/here.log /run/isp.log || fail "the route was removed: $1"
}

another_runs() { # than PID
    local pid
    pid=$(main_pid)
    [ "$pid" != 0 ] && [ "$pid" != "$1" ] && systemctl -q is-active announcerd && state_is MASTER
}

lay_out_network() {
    ip netns add isp
    ip link add ens3 type veth peer name to-hk netns isp
    ip addr add 203.0.113.2/24 dev ens3
    ip link set ens3 up
    ip -n isp link set lo up
    ip -n isp addr add 203.0.113.1/24 dev to-hk
    ip -n isp link set to-hk up
    ip -n isp addr add 198.18.0.1/32 dev lo
    ip route add default via 203.0.113.1
    ip netns exec isp bird -c "$here/isp.conf" -s /run/isp.ctl -P /run/isp.pid
    ip monitor route >/run/here.log &
    ip -n isp monitor route >/run/isp.log &
}

# As an operator would: the `#: ` off, own values in. (A guest that gets no time for a second is not isolated.)
edit_configuration() {
    sed -i -e 's/^#: \{0,1\}//' \
        -e '/^name = "mainland-http"/,/^rise/{s/^/# /}' \
        -e 's/\["mainland-ping", "mainland-http"\]/["mainland-ping"]/' \
        -e "s/^\[node\]/[node]\nrouter_id = '203.0.113.2'\ncontrol = '\/run\/announcerd\/hk.sock'/" \
        -e 's/^interval = "1s"/interval = "300ms"/; s/^timeout = "800ms".*/timeout = "290ms"/' \
        -e 's/^host = "198.18.0.1".*/host = "198.18.0.1"\nfwmark = 7/' \
        -e 's/^host = "203.0.113.1".*/&\nfall = 20/' \
        -e 's/checks = \["uplink"\]/checks = ["uplink", "script"]/' \
        -e 's/^failback_delay = .*/failback_delay = "1s"\ndrain = "1s"\nnotify = "\/usr\/local\/bin\/notify.sh"/' \
        /etc/announcer.toml
    # The http check is a comment by now, but for its header.
    perl -0pi -e 's/\[\[check\]\]\n# name = "mainland-http"/# none/' /etc/announcer.toml
    cat "$here/more.toml" >>/etc/announcer.toml
    printf '#!/bin/sh\nid -un >>/var/lib/announcerd/notified\nip route replace 192.0.2.0/24 dev lo proto 99\n' \
        >/usr/local/bin/notify.sh
    chmod 755 /usr/local/bin/notify.sh
    install -m 640 -g announcerd /dev/stdin /etc/announcerd/isp.key <<<"a secret of two"
}

# What dpkg does once the new files are there.
upgrade() {
    /var/lib/dpkg/info/announcerd.postinst configure 0.1.0
}

apt() {
    apt-get -q -y -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "$@" >/run/apt.log 2>&1 ||
        fail "apt-get $*: $(cat /run/apt.log)"
}

lay_out_network
apt install "$old"
systemctl -q is-active announcerd
systemctl -q is-enabled announcerd
announcerctl status >/run/status
[ "$(stat -c %U "/proc/$(main_pid)")" = announcerd ]
[ "$(awk '/^CapPrm/ { print $2 }' "/proc/$(main_pid)/status")" = 0000000000803400 ]
grep -q '^Seccomp:.2' "/proc/$(main_pid)/status"
ok "installed"

systemd-analyze security --no-pager announcerd.service | tail -n 1
ok "judged"

edit_configuration
announcerd --check
runuser -u announcerd -- announcerd --check
systemctl restart announcerd
within 30 state_is BACKUP
within 30 session_is_up
not kernel_has
ok "started"

# The thread of BFD has real-time priority, and nothing was refused to this user.
for task in /proc/"$(main_pid)"/task/*; do chrt -p "${task##*/}"; done | grep SCHED_FIFO >/dev/null
journalctl -b -u announcerd | not grep -E "priority|denied|not permitted"
ok "privileged enough"

ip -n isp addr del 198.18.0.1/32 dev lo
within 30 isp_has
kernel_has
state_is MASTER
within 30 grep -qx announcerd /var/lib/announcerd/notified
within 10 test -n "$(ip route show proto 99)"
ok "taken over"

pid=$(main_pid)
systemctl reload announcerd
sed -i 's/^fall = 3/fall = 4/' /etc/announcer.toml
systemctl reload announcerd
echo 'surprise = 1' >>/etc/announcer.toml
not systemctl reload announcerd 2>/dev/null
systemctl -q is-active announcerd
sed -i '$d' /etc/announcer.toml
[ "$(main_pid)" = "$pid" ]
never_removed "by a reload"
ok "reloaded"

within 30 session_is_up
apt install "$new"
within 60 another_runs "$pid"
within 60 session_is_up
[ "$(dpkg-query -W -f '${Version}' announcerd)" = 9.9.9 ]
grep -q '^fall = 4' /etc/announcer.toml
kernel_has
isp_has
never_removed "by an upgrade"
# In the ISP's own words: it kept the route of a session that had gone.
# (All is read: a pipe that breaks is a failure.)
journalctl -b -u announcerd | grep "handing over" >/dev/null
not test -e /run/announcerd.install
ok "upgraded"

# A file that the new version refuses: the old daemon runs on, and somebody is told.
pid=$(main_pid)
echo 'surprise = 1' >>/etc/announcer.toml
upgrade 2>&1 | grep "the old one runs on" >/dev/null
[ "$(main_pid)" = "$pid" ]
sed -i '$d' /etc/announcer.toml
# One that suits root, and not the daemon's user; a policy that forbids it.
chown root:root /etc/announcerd/isp.key
announcerd --check
upgrade 2>&1 | grep "the old one runs on" >/dev/null
chown root:announcerd /etc/announcerd/isp.key
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
upgrade 2>&1 | grep "policy-rc.d allows no restart, so the old one runs on" >/dev/null
rm /usr/sbin/policy-rc.d
[ "$(main_pid)" = "$pid" ]
systemctl -q is-active announcerd
never_removed "by an upgrade that cannot be"
ok "not upgraded"

# Disabled, but somebody has started it: it runs on. And a password that root's check refuses is the daemon's own.
systemctl disable announcerd
chown announcerd:announcerd /etc/announcerd/isp.key
chmod 600 /etc/announcerd/isp.key
{ announcerd --check 2>&1 || true; } | grep "chown root:announcerd /etc/announcerd/isp.key, chmod 640" >/dev/null
upgrade
within 60 another_runs "$pid"
within 60 session_is_up
kernel_has
isp_has
never_removed "by an upgrade of a disabled unit"
not systemctl -q is-enabled announcerd
systemctl enable announcerd
chown root:announcerd /etc/announcerd/isp.key
chmod 640 /etc/announcerd/isp.key
announcerd --check
ok "upgraded though disabled"

mkdir -p /run/systemd/system/announcerd.service.d
printf '[Service]\nWatchdogSec=4\n' >/run/systemd/system/announcerd.service.d/test.conf
systemctl daemon-reload
pid=$(main_pid)
kill -9 "$pid"
within 60 another_runs "$pid"
kernel_has
never_removed "by a crash"
ok "restarted after a crash"

pid=$(main_pid)
kill -STOP "$pid"
within 90 another_runs "$pid"
kernel_has
journalctl -b -u announcerd | grep -i watchdog >/dev/null
never_removed "by the watchdog's restart"
ok "restarted by the watchdog"

gives_up() {
    local pid
    systemctl -q is-failed announcerd && return 0
    pid=$(main_pid)
    [ "$pid" = 0 ] || kill -9 "$pid"
    return 1
}
kernel_has
within 90 gives_up
within 30 not kernel_has
ok "swept after the last crash"

# From here on as root, by the example for scripts that need it.
drop_in=/etc/systemd/system/announcerd.service.d
install -D -m 644 /usr/share/doc/announcerd/examples/scripts-as-root.conf $drop_in/scripts.conf
sed -i -E 's/^#(User=root|Group=root|AppArmorProfile=.*)/\1/' $drop_in/scripts.conf
systemctl daemon-reload
systemctl reset-failed announcerd
sed -i 's/^failback_delay = .*/&\non_stop = "keep"\nkeep_max = "8s"/' /etc/announcer.toml
systemctl start announcerd
within 60 state_is MASTER
within 30 kernel_has
[ "$(stat -c %U "/proc/$(main_pid)")" = root ]
systemctl stop announcerd
kernel_has
within 60 not kernel_has
ok "swept after keep_max"

systemctl start announcerd
within 60 state_is MASTER
within 30 kernel_has
dpkg --remove announcerd >/run/dpkg.log 2>&1 || fail "dpkg --remove: $(cat /run/dpkg.log)"
not kernel_has
rm -r $drop_in
not systemctl -q is-active announcerd
not systemctl -q is-active announcerd-afterwards
test -e /etc/announcer.toml
ok "removed"

dpkg --purge announcerd >/run/dpkg.log 2>&1 || fail "dpkg --purge: $(cat /run/dpkg.log)"
# The folders that lead to this one are not the package's, whatever they are called.
is_ours() { while read -r file; do case $here/ in "$file"/*) ;; *) echo "$file" ;; esac; done; }
left=$(find / -xdev \( -path /proc -o -path /sys -o -path "$here" -o -path /tmp \) -prune -o -iname '*announcer*' -print | is_ours)
left="$left$(find /run -iname '*announcer*' -not -path '/run/systemd/system/*' -not -path '/run/credentials/*' -not -path '/run/vm/*')"
left="$left$(ps -e 2>/dev/null | grep announcer || true)$(ip route show table all proto 187)"
[ -z "$left" ] || fail "left after the purge: $left"
getent passwd announcerd >/dev/null
ok "purged"
