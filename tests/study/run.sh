#!/usr/bin/env bash
# The text part of the study, by hand: DATA=folder tests/study/run.sh OUT
# DATA holds {clinc150,imdb}-{train,test}.parquet with embedding, label and aum, and, for flipped
# labels, NAME_10.parquet and NAME_20.parquet (embedding, flipped label, aum of training on them).
# Tables: python tests/study/make_tables.py OUT/*.json
set -euo pipefail
: "${DATA:?names the folder with the data}"
out=${1:?names the folder for the results}
mkdir -p "$out"
all=random,d2,hardest,easiest,moderate,ccs,kcenter,facility-location,semdedup
some=random,d2,facility-location,moderate,ccs,hardest
rates=0.3,0.5,0.7,0.8,0.9,0.95
for name in clinc150 imdb; do
  classes=(--difficulty aum --labels label --test "$DATA/$name-test.parquet" --within label --group label)
  d2 compare "$DATA/$name-train.parquet" "${classes[@]}" \
    --rates "$rates" --methods "$all" --prune-hardest 0 -o "$out/${name}_uncut.json"
  for source in "$name-train" "${name}_10" "${name}_20"; do
    d2 compare "$DATA/$source.parquet" "${classes[@]}" \
      --rates "$rates" --methods "$some" -o "$out/$source.json"
  done
  for source in "$name-train" "${name}_20"; do
    d2 compare "$DATA/$source.parquet" "${classes[@]}" --rates 0.5,0.9 --methods d2 --seeds 2 \
      --prune-hardest probe -o "$out/${source}_probe.json"
  done
  sweep=(d2 sweep "$DATA/$name-train.parquet" "${classes[@]}" --rates 0.5,0.7,0.9 --seeds 2)
  "${sweep[@]}" -k 1,5,10,15,20 --gamma-reverse auto,0.1,0.5,1 -o "$out/${name}_k.json"
  "${sweep[@]}" --gamma-forward auto,0,0.5,1,3 -o "$out/${name}_gamma_forward.json"
  "${sweep[@]}" --bandwidth auto,0.5,1,2 -o "$out/${name}_bandwidth.json"
  "${sweep[@]}" --rounds 1,2,3 -o "$out/${name}_rounds.json"
  "${sweep[@]}" --messages signed,clamped -o "$out/${name}_messages.json"
done
