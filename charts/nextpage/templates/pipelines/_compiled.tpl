{{/* A compiled pipeline's text, its images from our registry. Of (list $ "path"). */}}
{{- define "nextpage.compiled" -}}
{{- $root := index . 0 -}}
{{- $root.Files.Get (index . 1) | replace "image: ghcr.io/nextpage/" (printf "image: %s/" $root.Values.images.registry) -}}
{{- end }}

{{/* Its name and its version's, as JSON. The version holds a hash, for what is under a version never changes. */}}
{{- define "nextpage.compiled.names" -}}
{{- $text := include "nextpage.compiled" . -}}
{{- $name := (regexFind "(?m)^pipelineInfo:\n(  .*\n)*?  name: .*$" $text | splitList "name: " | last) | trim -}}
{{- $version := printf "%s-%s" (index . 0).Chart.Version ($text | sha256sum | trunc 8) | replace "+" "-" -}}
{{- dict "name" $name "version" $version "file" (base (index . 1)) | toJson -}}
{{- end }}
