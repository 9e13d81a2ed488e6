# shellcheck shell=bash
# What a person can look at and try once the demo has run.

next_steps() {
    local company=clinica-sorriso.demo http=http://127.0.0.1:$HTTP_PORT binary=${BINARIES#"$ROOT/"}/secretaria id usage
    id=$("$BINARIES/secretaria" company list | awk -v domain="$company" '$2 == domain { print $1 }') || return 0
    usage="$http/api/usage?company_id=$id"
    cat <<END

Where to look

  webhook        POST $http/webhook/whaticket
  health         $http/healthz
  metrics        $http/metrics
  usage          $usage
  conversations  $http/api/conversations?company_id=$id
  numbers        $http/api/analytics/summary?company_id=$id
  providers      http://$SANDBOX_LISTEN/_sandbox/log

What to try, after \`source ${STATE#"$ROOT/"}/env\`

  write          $binary hook send --company $company --text 'Oi! Quanto custa a limpeza?'
  read along     $binary follow --company $company
  dead letters   $binary dead-letters list
  the sums       $binary conservation
  the lake       $binary lake sql 'select kind, count(*) from events group by kind'
  a report       $binary report --company $company --format xlsx
  ask the API    curl -H "Authorization: Bearer \$($binary token --company $company)" '$usage'
  the rows       psql "\$SECRETARIA__POSTGRES__OPERATOR_URL"
END
}
