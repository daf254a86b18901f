#!/usr/bin/env bash
# Prints what kernels made of objects as a table in Markdown, then every reason; fails where something was refused by a
# kernel, differs or has no result.
# usage: table.sh RESULTS VERSION…
set -euo pipefail
results=$1
shift
for version; do
	sed "s/^@ /$version|/" "$results/$version"
done | awk -F'|' -v versions="$*" '
	BEGIN { count = split(versions, version, " ") }
	$2 == "kernel" { release[$1] = $3; next }
	{
		if (!($3 in seen)) { seen[$3] = 1; names[++rows] = $3 }
		cell[$3, $1] = cell[$3, $1] (cell[$3, $1] ? ", " : "") $4
		if ($4 ~ /refused|differs|no result/) { bad++; reasons[++given] = $3 " on Linux " $1 ": " $5 }
		# What the compiler refuses, it refuses alike for many.
		else if ($5 && !(($4, $1, $5) in told)) { told[$4, $1, $5] = 1; reasons[++given] = $4 " for Linux " $1 ": " $5 }
	}
	END {
		line = "| object |"; rule = "|---|"
		for (v = 1; v <= count; v++) { line = line " " (release[version[v]] ? release[version[v]] : version[v]) " |"; rule = rule "---|" }
		print line; print rule
		for (r = 1; r <= rows; r++) {
			line = "| " names[r] " |"
			for (v = 1; v <= count; v++) line = line " " cell[names[r], version[v]] " |"
			print line
		}
		if (given) print ""
		for (g = 1; g <= given; g++) print reasons[g]
		printf "\n%d objects on %d kernels, %d failed\n", rows, count, bad
		exit bad > 0
	}'
