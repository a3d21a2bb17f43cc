{{/* A compiled pipeline's text, its images from our registry, Redis's password from our Secret. Of (list $ "path"). */}}
{{- define "nextpage.compiled" -}}
{{- $values := (index . 0).Values -}}
{{- $text := (index . 0).Files.Get (index . 1) | replace "image: ghcr.io/nextpage/" (printf "image: %s/" $values.images.registry) -}}
{{- $secret := $values.redis.secret | default "nextpage-redis" -}}
{{- $text | replace "constant: nextpage-redis" (printf "constant: %s" $secret) | replace "secretName: nextpage-redis" (printf "secretName: %s" $secret) -}}
{{- end }}

{{/* Its name and its version's, as JSON. The version holds a hash, for what is under a version never changes. */}}
{{- define "nextpage.compiled.names" -}}
{{- $text := include "nextpage.compiled" . -}}
{{- $name := (regexFind "(?m)^pipelineInfo:\n(  .*\n)*?  name: .*$" $text | splitList "name: " | last) | trim -}}
{{- $version := printf "%s-%s" (index . 0).Chart.Version ($text | sha256sum | trunc 8) | replace "+" "-" -}}
{{- dict "name" $name "version" $version "file" (base (index . 1)) | toJson -}}
{{- end }}
