#!/bin/bash
# Builds image archives in docker-archive form that "ctr images import" takes:
#   images/pause.tar, images/agnhost.tar, images/busybox.tar
# The references are those the e2e suite asks for; they are read from the
# suite's own sources so that no registry is named here.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"; cd "$K8S"; mkdir -p images
find_go
SRC=$(cd "$SCRIPTS/tools" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)
(cd "$SCRIPTS/tools" && CGO_ENABLED=0 go run ./imagenames) > images/names
ref() { awk -v n=$1 '$1==n{print $2}' images/names; }
AGN=$(ref agnhost); PAUSE=$(ref pause); BB=$(ref busybox)
pack="$SCRIPTS/pack"
R=images/root; rm -rf $R
# pause: Kubernetes' own program
mkdir -p $R/pause; gcc -Os -static -DVERSION=local -o $R/pause/pause "$SRC/build/pause/linux/pause.c"; strip $R/pause/pause
"$pack" images/pause.tar "$PAUSE" $R/pause '["/pause"]' '[]'
# agnhost, with busybox in place of the real image's Alpine userland
mkdir -p $R/agnhost/{bin,etc,tmp,uploads,usr/bin}; cp "$BIN/agnhost" $R/agnhost/agnhost; ln -s agnhost $R/agnhost/agnhost-2
cp "$SRC"/test/images/agnhost/porter/localhost.{crt,key} $R/agnhost/; chmod u+w $R/agnhost/localhost.*
bb() { cp sysroot/bin/busybox $1/bin/busybox; for a in $(sysroot/bin/busybox --list); do [ $a = busybox ] || ln -sf busybox $1/bin/$a; done
  # Debian's static busybox crashes in host name look-ups (wget, even of an
  # address); nc, ping, ip and the rest work. Use agnhost connect, or nc.
  echo 'root:x:0:0:root:/root:/bin/sh' > $1/etc/passwd; echo 'root:x:0:' > $1/etc/group; chmod 1777 $1/tmp; }
bb $R/agnhost
# The suite's Granular Checks and Services tests call curl and OpenBSD's nc by
# name: Debian's own, with the libraries they load.
dyn() { # program name-in-image
  cp "$1" $R/agnhost/$2
  for l in $(LD_LIBRARY_PATH=$K8S/sysroot/usr/lib/x86_64-linux-gnu ldd "$1" | grep -oE '/[^ ]+'); do mkdir -p $R/agnhost$(dirname $l); cp -Ln $l $R/agnhost$l 2>/dev/null || :; done; }
# busybox's shell runs its own nc (which has no -u) whatever PATH says: dash instead
rm -f $R/agnhost/bin/{nc,wget,sh,ash}
dyn /bin/dash bin/sh; dyn /usr/bin/curl usr/bin/curl; dyn sysroot/bin/nc.openbsd usr/bin/nc
# network-policy-api's tests call bash and want agnhost 2.45, cyclonus 2.43
ln -sf sh $R/agnhost/bin/bash
"$pack" images/agnhost.tar "$AGN,${AGN%:*}:2.45,${AGN%:*}:2.43" $R/agnhost '["/agnhost"]' '["pause"]'
mkdir -p $R/busybox/{bin,etc,tmp}; bb $R/busybox
"$pack" images/busybox.tar "$BB" $R/busybox '[]' '["sh"]'
echo "$PAUSE" > images/pause.ref; echo "$AGN" > images/agnhost.ref; echo "$BB" > images/busybox.ref
