#!/bin/sh
# Leads a prefix list through the VPN in the route tables of an AWS transit gateway, or back over the leased line.
#
#     cloud-route-table.sh vpn     each table has a reference to the list that points to the VPN
#     cloud-route-table.sh line    each table has none (the line's propagated routes count), or one to the line
#
# It looks before it changes anything and looks again afterwards: exit status 0 means that every table was seen to be
# as it should be, however it came to be so. Anything else is a failure, which announcerd tries again (notify_retry).
# A reference that points elsewhere is somebody else's: it is left alone, and that is a failure too.
#
# Settings: cloud-route-table.env. Needs the AWS command-line tool (Debian: awscli), version 1 or 2.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
settings=${CLOUD_ROUTE_TABLE:-/usr/local/etc/cloud-route-table.env}

fail() {
    echo "$*" >&2
    exit 1
}

[ -r "$settings" ] || fail "$settings cannot be read"
# Whatever stands there is for aws as well: AWS_REGION, AWS_SHARED_CREDENTIALS_FILE.
set -a
. "$settings"
set +a
: "${TABLES:?is missing in $settings}" "${PREFIX_LIST:?is missing in $settings}" "${VPN:?is missing in $settings}"
LINE=${LINE:-}
case "${1:-}" in
    vpn) wanted=$VPN ;;
    line) wanted=${LINE:-none} ;;
    *) fail "usage: $0 vpn|line" ;;
esac
# One run at a time, by hand too.
exec 9<"$settings"
flock -w "${SETTLE_SECONDS:-30}" 9 || fail "another run is under way"

# A call is tried once here: announcerd tries again, and by then it may be wanted otherwise.
export AWS_MAX_ATTEMPTS=1 AWS_PAGER=

ec2() {
    aws ec2 "$@" --output text --cli-connect-timeout "${CONNECT_SECONDS:-5}" --cli-read-timeout "${READ_SECONDS:-10}" \
        ${ENDPOINT_URL:+--endpoint-url "$ENDPOINT_URL"}
}

# The table's reference in three words: its state, whether it is a black hole, its attachment. "none" if there is none.
look() {
    seen=$(ec2 get-transit-gateway-prefix-list-references --transit-gateway-route-table-id "$1" \
        --filters "Name=prefix-list-id,Values=$PREFIX_LIST" --query \
        'TransitGatewayPrefixListReferences[].[State,Blackhole,TransitGatewayAttachment.TransitGatewayAttachmentId]') ||
        return 1
    echo "${seen:-none}"
}

# change VERB TABLE OPTION...
change() {
    verb=$1 of=$2
    shift 2
    echo "$of: $verb the reference to $PREFIX_LIST${*:+ ($*)}"
    ec2 "$verb-transit-gateway-prefix-list-reference" --transit-gateway-route-table-id "$of" \
        --prefix-list-id "$PREFIX_LIST" "$@" >/dev/null
}

converge() {
    table=$1
    asked=no
    sure=no
    deadline=$(($(date +%s) + ${SETTLE_SECONDS:-30}))
    while :; do
        found=$(look "$table") || fail "$table: cannot be looked at"
        # shellcheck disable=SC2086
        set -- $found
        now=changing
        case "$1" in
            none) now=none ;;
            available) [ "${2:-}" = True ] && now="a black hole" || now=${3:-unknown} ;;
        esac
        if [ "$now" = "$wanted" ] && [ "$asked$sure" = nono ]; then
            # What a run before this one asked for, and was killed over, may still be under way.
            sure=yes
            sleep "${AGAIN_SECONDS:-3}"
            continue
        fi
        if [ "$now" = "$wanted" ]; then
            echo "$table: $PREFIX_LIST -> $now"
            return 0
        fi
        # What is under way refuses other changes; what was asked for once and is not there yet may still come.
        if [ "$now" = changing ] || [ "$asked" = yes ]; then
            [ "$(date +%s)" -lt "$deadline" ] || fail "$table: is still $found, not $wanted"
            sleep 1
            continue
        fi
        case "$wanted/$now" in
            */none) change create "$table" --transit-gateway-attachment-id "$wanted" ;;
            "none/$VPN") change delete "$table" ;;
            "none/"*) fail "$table: $PREFIX_LIST -> $now, which is neither ours nor asked for; left alone" ;;
            */"$VPN" | */"$LINE") change modify "$table" --transit-gateway-attachment-id "$wanted" --no-blackhole ;;
            *) fail "$table: $PREFIX_LIST -> $now, which is neither the VPN nor the line; left alone" ;;
        esac || fail "$table: the change was refused"
        asked=yes
    done
}

# All tables at once: a call takes the tool a second, and one that fails must not keep the others waiting.
running=
for table in $TABLES; do
    converge "$table" &
    running="$running $!"
done
status=0
for one in $running; do
    wait "$one" || status=1
done
exit $status
