{{/* A compiled pipeline's text, with our registry's images and our Secrets' names. Of (list $ "path"). */}}
{{- define "nextpage.compiled" -}}
{{- $values := (index . 0).Values -}}
{{- $text := regexReplaceAll "(?m)^( *image: )\\S+/" ((index . 0).Files.Get (index . 1)) (printf "${1}%s/" $values.images.registry) -}}
{{- range $fixed, $named := dict "nextpage-redis" $values.redis.secret "nextpage-feast" $values.featureStore.registrySecret -}}
{{- range $field := ternary (list "constant" "secretName") list (not (empty $named)) -}}
{{- $text = $text | replace (printf "%s: %s\n" $field $fixed) (printf "%s: %s\n" $field $named) -}}
{{- end -}}
{{- end -}}
{{- $text -}}
{{- end }}

{{/* Its name and its version's, as JSON. The version holds a hash, for what is under a version never changes. */}}
{{- define "nextpage.compiled.names" -}}
{{- $text := include "nextpage.compiled" . -}}
{{- $name := (regexFind "(?m)^pipelineInfo:\n(  .*\n)*?  name: .*$" $text | splitList "name: " | last) | trim -}}
{{- $version := printf "%s-%s" (index . 0).Chart.Version ($text | sha256sum | trunc 8) | replace "+" "-" -}}
{{- dict "name" $name "version" $version "file" (base (index . 1)) | toJson -}}
{{- end }}
