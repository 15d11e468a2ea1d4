#!/usr/bin/env bash
# The text part of the study, by hand: DATA=folder tests/study/run.sh OUT
# DATA holds {clinc150,imdb}-{train,test}.parquet with embedding, label and aum, and, for flipped
# labels, NAME_10.parquet and NAME_20.parquet (embedding, flipped label, aum of training on them).
set -euo pipefail
: "${DATA:?names the folder with the data}"
out=${1:?names the folder for the results}
mkdir -p "$out"
all=random,d2,hardest,easiest,moderate,ccs,kcenter,facility-location,semdedup
classes=(--difficulty aum --labels label --within label --group label)
for name in clinc150 imdb; do
  test=(--test "$DATA/$name-test.parquet")
  d2 compare "$DATA/$name-train.parquet" "${classes[@]}" "${test[@]}" \
    --rates 0.3,0.5,0.7,0.8,0.9,0.95 --methods "$all" -o "$out/$name.json"
  d2 compare "$DATA/$name-train.parquet" "${classes[@]}" "${test[@]}" \
    --rates 0.3,0.5,0.7,0.8,0.9,0.95 --methods random,d2 --prune-hardest auto -o "$out/${name}_auto.json"
  d2 sweep "$DATA/$name-train.parquet" "${classes[@]}" "${test[@]}" --rates 0.5,0.7,0.9 \
    -k 1,5,10,15,20 --gamma-reverse auto,0.1,0.5,1 -o "$out/${name}_sweep.json"
  for percent in 10 20; do
    for cut in 0 auto; do
      d2 compare "$DATA/${name}_$percent.parquet" "${classes[@]}" "${test[@]}" \
        --rates 0.3,0.5,0.7,0.8,0.9 --methods random,d2,hardest,ccs --prune-hardest "$cut" \
        -o "$out/${name}_${percent}_$cut.json"
    done
  done
done
