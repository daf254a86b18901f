#!/usr/bin/env bash
# Puts a Debian kernel's image beside the others and prints its path; explains itself on the error output where
# there is none.
# usage: fetch.sh SUITE VERSION DIR, for example fetch.sh bullseye-security 5.10 target/kernels
# The mirror is that of apt's sources, or MIRROR, for example MIRROR=http://mirror.example.org (the folder above
# `debian` and `debian-security`).
set -euo pipefail

suite=$1 version=$2 out=$3
image=$out/vmlinuz-$version
if [ -s "$image" ]; then
	echo "$image"
	exit 0
fi

archive=debian
[ "${suite%-security}" = "$suite" ] || archive=debian-security
mirror=${MIRROR:-}
if [ -z "$mirror" ]; then
	# The site of a Debian archive among apt's sources; the security archive may have another host.
	sites=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | sort -u)
	site=$(grep -m1 "/$archive/\?$" <<<"$sites" || grep -m1 '/debian/\?$' <<<"$sites" || true)
	[ -n "$site" ] || { echo "apt has no Debian source; set MIRROR" >&2; exit 1; }
	site=${site%/}
	mirror=${site%/*}
fi

get() { curl --silent --show-error --fail --location --retry 2 --max-time 300 "$@"; }

# Of all packages of the version the newest: the index has one paragraph for each.
index=$mirror/$archive/dists/$suite/main/binary-amd64/Packages.xz
newest=$(get "$index" | xz --decompress --stdout | awk -v prefix="$version." '
	/^Package: / { package = $2 }
	/^Version: / { number = $2 }
	/^Filename: / { file = $2 }
	/^SHA256: / { sum = $2 }
	/^$/ {
		# From 7.2 on the image is in a package of its own, of which linux-image-… is empty.
		kind = package ~ /^linux-binary-/ ? 2 : 1
		if (package ~ /^linux-(image|binary)-[0-9].*-cloud-amd64$/ && index(number, prefix) == 1)
			print number, kind, file, sum
	}' | sort -V | tail -n 1)
[ -n "$newest" ] || { echo "$suite has no kernel $version" >&2; exit 1; }
read -r _ _ file sum <<<"$newest"

package=$out/${file##*/}
trap 'rm -rf "$package" "$image.part"' EXIT
get --output "$package" "$mirror/$archive/$file"
sha256sum --check --quiet <<<"$sum  $package"
# Only the image: modules are not needed to load programs.
dpkg-deb --fsys-tarfile "$package" | tar --extract --to-stdout --wildcards '*/vmlinuz*' >"$image.part"
[ -s "$image.part" ] || { echo "${file##*/} has no image" >&2; exit 1; }
mv "$image.part" "$image"
echo "$image"
